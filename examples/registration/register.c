/* register.c -- registers users, in one of two ways, and says for each what the user saw and after how long.
 *
 *   registration_register SERVER requests|events COUNT
 *
 * requests: each service is called in turn, and the user waits for all of them. events: it is published that the user has registered, of
 * whoever wants to know nothing is known here; the user waits until the server has that on its disk, and the services react when they can.
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

/* One event, one commit: each of its subscribers has it, or none has. */
static const char *by_events(wh_client *client, const char *user, struct wh_problem *problem)
{
	struct wh_event event = {0};
	struct wh_how how = {0};

	event.type = "user.registered";
	event.source = "/registration";
	event.id = user; /* published again it is the same event */
	event.data.bytes = user;
	event.data.len = strlen(user);
	event.data.type = "text/plain";
	how.problem = problem;
	return wh_await(wh_client_publish(client, "registration", &event, &how)).n >= 0 ? NULL
	                                                                                : "registration";
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
