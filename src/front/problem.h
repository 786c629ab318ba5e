/* src/front/problem.h -- every refusal in one place: application/problem+json (RFC 9457).
 *
 * The table is the one of docs/reference/http.md. A code has one status and one title for ever; what was
 * wrong this time, where, and what to do about it is the detail. Pure; any thread.
 */
#ifndef WH_FRONT_PROBLEM_H
#define WH_FRONT_PROBLEM_H

#include <stdarg.h>
#include <stdint.h>

#include "base/text.h"

/* name, code, status, title */
#define PROBLEM_KINDS(X)                                                                                  \
	X(BAD_REQUEST, "bad-request", 400, "The request is malformed")                                    \
	X(BAD_JSON, "bad-json", 400, "The body is not the JSON that is wanted")                           \
	X(NO_TOKEN, "no-token", 401, "A token is wanted")                                                 \
	X(NOT_ALLOWED, "not-allowed", 403, "The token is not good for this")                              \
	X(NOT_WITHIN, "not-within", 403, "A token with a prefix may not do this")                         \
	X(UNKNOWN_PATH, "unknown-path", 404, "There is nothing at this path")                             \
	X(UNKNOWN_QUEUE, "unknown-queue", 404, "There is no such queue")                                  \
	X(UNKNOWN_JOB, "unknown-job", 404, "There is no such job")                                        \
	X(UNKNOWN_SERVICE, "unknown-service", 404, "There is no such service")                            \
	X(UNKNOWN_TARGET, "unknown-target", 404, "The queue has no target")                               \
	X(UNKNOWN_TOPIC, "unknown-topic", 404, "There is no such topic")                                  \
	X(UNKNOWN_SUBSCRIPTION, "unknown-subscription", 404, "There is no such subscription")             \
	X(UNKNOWN_SCHEDULE, "unknown-schedule", 404, "There is no such schedule")                         \
	X(WRONG_METHOD, "wrong-method", 405, "This method is not for this path")                          \
	X(REQUEST_TIMEOUT, "request-timeout", 408, "The request did not arrive in time")                  \
	X(LEASE_LOST, "lease-lost", 409, "The lease is not held any more")                                \
	X(NOT_READY, "not-ready", 409, "The job is not finished yet")                                     \
	X(JOB_FINISHED, "job-finished", 409, "The job is finished")                                       \
	X(JOB_CANCELLED, "job-cancelled", 409, "The job is cancelled")                                    \
	X(QUEUE_NOT_EMPTY, "queue-not-empty", 409, "The queue holds unfinished jobs")                     \
	X(ACTION_REFUSED, "action-refused", 409, "An action of the transaction was refused")              \
	X(HAS_TARGET, "has-target", 409, "The queue has a target")                                        \
	X(TOPIC_NOT_EMPTY, "topic-not-empty", 409, "The topic has subscriptions")                         \
	X(KEEPS_NO_EVENTS, "keeps-no-events", 409, "The topic keeps no events")                           \
	X(WRONG_STATE, "wrong-state", 409, "The state of the job does not allow this")                    \
	X(UNKNOWN_AWAITED, "unknown-awaited", 409, "A job that this one is to run after is not there")    \
	X(AWAITED_FULL, "awaited-full", 409, "As many jobs as may be are to run after that one")          \
	X(EXPIRED, "expired", 410, "The job was here and its retention has passed")                       \
	X(LOST, "lost", 410, "The position did not survive the end of its epoch")                         \
	X(PRECONDITION_FAILED, "precondition-failed", 412, "The job is not what If-Match names")          \
	X(LENGTH_REQUIRED, "length-required", 411, "The length of the body must be known")                \
	X(TOO_LARGE, "too-large", 413, "The body is too large")                                           \
	X(TARGET_TOO_LONG, "target-too-long", 414, "The request target is too long")                      \
	X(WRONG_CONTENT_TYPE, "wrong-content-type", 415, "The body has a type that is not for this path") \
	X(EXPECTATION_FAILED, "expectation-failed", 417, "The expectation cannot be met")                 \
	X(MISDIRECTED, "misdirected", 421, "The request is for another server")                           \
	X(LEVEL_UNAVAILABLE, "level-unavailable", 422, "This commit level cannot be given")               \
	X(BAD_VALUE, "bad-value", 422, "A value is outside its range")                                    \
	X(TARGET_REFUSED, "target-refused", 422, "The address is one that may not be reached")            \
	X(KEY_REUSED, "key-reused", 422, "The idempotency key was used for another request")              \
	X(QUEUE_FULL, "queue-full", 429, "The queue is full")                                             \
	X(NAMESPACE_FULL, "namespace-full", 429, "The namespace holds what it may")                       \
	X(TOO_MANY_REQUESTS, "too-many-requests", 429, "The token has used what it may")                  \
	X(HEADERS_TOO_LARGE, "headers-too-large", 431, "The header section is too large")                 \
	X(INTERNAL, "internal", 500, "The server could not do this")                                      \
	X(DAMAGED, "damaged", 500, "What is stored cannot be read back")                                  \
	X(UNSUPPORTED, "unsupported", 501, "This method or transfer coding is not known")                 \
	X(JOB_FAILED, "job-failed", 502, "The job has failed")                                            \
	X(JOB_TIMED_OUT, "job-failed", 504, "The job has failed")                                         \
	X(BACKEND_UNREACHABLE, "backend-unreachable", 502, "The backend cannot be reached")               \
	X(BACKEND_ERROR, "backend-error", 502, "The backend broke off or spoke no HTTP")                  \
	X(DISK_FULL, "disk-full", 503, "There is no room on the disk")                                    \
	X(DRAINING, "draining", 503, "The server is stopping")                                            \
	X(TOO_BUSY, "too-busy", 503, "A limit of the server is reached")                                  \
	X(BACKEND_TIMEOUT, "backend-timeout", 504, "The backend did not answer in time")                  \
	X(BACKEND_UNAVAILABLE, "backend-unavailable", 503, "No backend of the service takes calls")       \
	X(WAIT_ENDED, "wait-ended", 504, "The call was not done in time and is cancelled")                \
	X(LOOP_DETECTED, "loop-detected", 508, "The call goes round in circles")                          \
	X(HTTP_VERSION, "http-version", 505, "Only HTTP/1.0 and HTTP/1.1 are spoken here")

enum problem {
#define PROBLEM_NAME(name, code, status, title) PROBLEM_##name,
	PROBLEM_KINDS(PROBLEM_NAME)
#undef PROBLEM_NAME
		PROBLEM__COUNT
};

int problem_status(enum problem problem);
const char *problem_code(enum problem problem);

/* problem_write() - the document. members: further members, each beginning with a comma (",\"limit\":5"), or
 * NULL. detail is plain text in UTF-8; what is not is replaced. */
void problem_write(struct wh__text *text, enum problem problem, const char *members, const char *detail,
                   va_list list) __attribute__((format(printf, 4, 0)));

/* problem_limit() - the member that tells which limit was met, in front of others, for problem_write(); limit 0: only these. Whatever is refused because of
 * a limit is told so. more: NULL, or such members. Returns to. */
enum { PROBLEM_MEMBERS_BYTES = 240 };
const char *problem_limit(char to[PROBLEM_MEMBERS_BYTES], uint64_t limit, const char *more);

void problem_put(struct wh__text *text, enum problem problem, const char *members, const char *detail, ...)
	__attribute__((format(printf, 4, 5)));

#endif
