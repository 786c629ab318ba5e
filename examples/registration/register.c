/* register.c -- registers users, in one of two ways, and says for each what the user saw and after how long.
 *
 *   registration_register SERVER requests|events COUNT
 *
 * requests: each service is called in turn, and the user waits for all of them. events: one message goes to the queue of each service; the
 * user waits until the server has them on its disk, and the services react when they can.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <whilst/client.h>

static const char *const services[] = {"account", "profile", "mail", "billing"};
enum { SERVICES = sizeof(services) / sizeof(services[0]) };

/* NULL: well; else the service that did not, and why. */
static const char *by_requests(wh_client *client, const char *user, struct wh_problem *problem)
{
	for (int i = 0; i < SERVICES; i++) {
		struct wh_service_call call = {0};
		struct wh_how how = {0};
		wh_res res;

		call.service = services[i];
		call.path = "/register";
		call.body.bytes = user;
		call.body.len = strlen(user);
		how.problem = problem;
		res = wh_await(wh_client_call(client, &call, &how));
		if (res.n >= 0)
			wh_result_free(res.ptr);
		if (res.n != 200)
			return services
				[i]; /* those before it have done their step, those behind it will not */
	}
	return NULL;
}

static const char *by_events(wh_client *client, const char *user, struct wh_problem *problem)
{
	wh_future sent[SERVICES];
	const char *failed = NULL;

	for (int i = 0; i < SERVICES; i++) {
		struct wh_payload message = {0};
		struct wh_how how = {0};
		char queue[64];

		snprintf(queue, sizeof(queue), "registration/%s", services[i]);
		message.bytes = user;
		message.len = strlen(user);
		how.problem = problem;
		sent[i] = wh_client_submit(client, queue, &message, NULL, &how);
	}
	for (int i = 0; i < SERVICES; i++) {
		if (wh_await(sent[i]).n < 0)
			failed = services[i];
	}
	return failed;
}

int main(int argc, char **argv)
{
	struct wh_client_options options = {0};
	wh_client *client;
	wh_loop *loop;
	int error, count = argc == 4 ? atoi(argv[3]) : 0;

	if (count <= 0 || (strcmp(argv[2], "requests") != 0 && strcmp(argv[2], "events") != 0)) {
		fprintf(stderr, "usage: registration_register SERVER requests|events COUNT\n");
		return 2;
	}
	options.server = argv[1];
	error = wh_loop_open(&loop, NULL);
	if (error < 0 || (error = wh_client_open(loop, &options, &client)) < 0) {
		fprintf(stderr, "cannot start: %s\n", wh_strerror(error));
		return 1;
	}
	for (int i = 0; i < count; i++) {
		struct wh_problem problem = {0};
		int64_t begun = wh_clock(loop);
		const char *failed;
		char user[64];

		snprintf(user, sizeof(user), "%s-%d", argv[2], i);
		failed = argv[2][0] == 'r' ? by_requests(client, user, &problem)
		                           : by_events(client, user, &problem);
		printf("%s\t%" PRId64 "\t%s\t%s\n", user, (wh_clock(loop) - begun) / WH_NS_PER_US,
		       failed ? "failed" : "registered", failed ? problem.detail : "");
		fflush(stdout);
	}
	wh_client_close(client);
	wh_loop_close(loop);
	return 0;
}
