/* src/base/error.c -- texts for errors. Pure. */
#include "whilst/whilst.h"

#include <errno.h>
#include <string.h>

const char *wh_strerror(int64_t error)
{
	int64_t code = error < 0 ? -error : error;
	switch (code) {
	case 0:
		return "success";
	case WH_EHTTP_SYNTAX:
		return "malformed HTTP message";
	case WH_EHTTP_TOO_LARGE:
		return "HTTP header section or body over its limit";
	case WH_EHTTP_CLOSED:
		return "connection closed within an HTTP message";
	case WH_EHTTP_REDIRECT:
		return "one HTTP redirect too many, or one that may not be followed";
	case WH_EHTTP_PROXY:
		return "the HTTP proxy refuses to connect";
	case WH_ESIM_POWER_CUT:
		return "the simulated machine has no power";
	case WH_EDAMAGED:
		return "stored bytes do not match their checksum";
	case WH_ENAME_UNKNOWN:
		return "the name does not exist";
	case WH_ENAME_NO_ADDRESS:
		return "the name has no address of that kind";
	case WH_ENAME_SERVER:
		return "no usable answer from a name server";
	case WH_ENAME_SERVICE:
		return "the service is not known";
	case WH_ETLS_CERTIFICATE:
		return "the peer's certificate is refused";
	case WH_ETLS_REFUSED:
		return "the peer refuses the TLS connection";
	case WH_ETLS_PROTOCOL:
		return "TLS protocol error";
	case WH_ETLS_TRUNCATED:
		return "connection closed within the TLS stream";
	case WH_ETLS_CONFIG:
		return "certificates, keys or authorities cannot be used";
	case WH_EUNFINISHED:
		return "a task returned before the members of a group that it opened";
	case WH_EADDRESS_REFUSED:
		return "the address is one that may not be connected to";
	case WH_ECALL_UNKNOWN:
		return "no answer has come: the change is done or not";
	case WH_ECALL_REFUSED:
		return "the server refuses the request";
	case WH_ECALL_BAD_VALUE:
		return "a value is outside its range";
	case WH_ECALL_TOO_LARGE:
		return "larger than the server takes";
	case WH_ECALL_UNKNOWN_QUEUE:
		return "there is no such queue";
	case WH_ECALL_UNKNOWN_JOB:
		return "there is no such job";
	case WH_ECALL_UNKNOWN_SERVICE:
		return "there is no such service";
	case WH_ECALL_LEASE_LOST:
		return "the lease is not held any more";
	case WH_ECALL_NOT_READY:
		return "the job is not finished yet";
	case WH_ECALL_JOB_FINISHED:
		return "the job is finished";
	case WH_ECALL_JOB_CANCELLED:
		return "the job is cancelled";
	case WH_ECALL_JOB_FAILED:
		return "the job has failed";
	case WH_ECALL_QUEUE_NOT_EMPTY:
		return "the queue holds unfinished jobs";
	case WH_ECALL_WRONG_STATE:
		return "the state of the job does not allow this";
	case WH_ECALL_EXPIRED:
		return "the job's retention has passed";
	case WH_ECALL_LOST:
		return "what was committed at this position is gone";
	case WH_ECALL_LEVEL_UNAVAILABLE:
		return "the server cannot give this commit level";
	case WH_ECALL_QUEUE_FULL:
		return "the queue is full";
	case WH_ECALL_DISK_FULL:
		return "the server's disk is full";
	case WH_ECALL_DRAINING:
		return "the server is stopping";
	case WH_ECALL_TOO_BUSY:
		return "a limit of the server is reached";
	case WH_ECALL_INTERNAL:
		return "the server could not do this";
	case WH_ECALL_UNKNOWN_TOPIC:
		return "there is no such topic, or subscription of it";
	case WH_ECALL_BACKEND:
		return "the service behind the gateway did not answer";
	case WH_ECALL_KEY_REUSED:
		return "the key was used for another request";
	case WH_ECALL_CHANGED:
		return "the job has changed since it was looked at";
	default:
		break;
	}
	/* strerrordesc_np(3): static and the same in every locale, unlike strerror(3) */
	const char *text = code < 4096 ? strerrordesc_np((int)code) : NULL;
	return text ? text : "unknown error";
}

const char *wh_version(void)
{
	return WH_VERSION;
}
