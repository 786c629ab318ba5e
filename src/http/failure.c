/* src/http/failure.c -- where a request of the client was when it failed, in words. Thread: loop. */
#include <errno.h>
#include <stdio.h>

#include "http/client.h"

static const char *const names[] = {
	[WH_HTTP_STAGE_NONE] = "before it began",
	[WH_HTTP_STAGE_LINE] = "in line for a connection",
	[WH_HTTP_STAGE_CONNECT] = "connecting",
	[WH_HTTP_STAGE_PROXY] = "waiting for the proxy to connect",
	[WH_HTTP_STAGE_TLS] = "in the TLS handshake",
	[WH_HTTP_STAGE_SEND] = "sending the request",
	[WH_HTTP_STAGE_RESPONSE] = "waiting for the response",
	[WH_HTTP_STAGE_BODY] = "amid the content of the response",
};

static const char *const time_outs[] = {
	[WH_HTTP_STAGE_NONE] = "timed out before it began",
	[WH_HTTP_STAGE_LINE] = "timed out in line for a connection",
	[WH_HTTP_STAGE_CONNECT] = "timed out connecting",
	[WH_HTTP_STAGE_PROXY] = "timed out waiting for the proxy to connect",
	[WH_HTTP_STAGE_TLS] = "timed out in the TLS handshake",
	[WH_HTTP_STAGE_SEND] = "timed out sending the request",
	[WH_HTTP_STAGE_RESPONSE] = "timed out waiting for the response",
	[WH_HTTP_STAGE_BODY] = "timed out amid the content of the response",
};

const char *wh_http_stage_name(int stage)
{
	return stage >= 0 && stage <= WH_HTTP_STAGE_BODY ? names[stage] : "";
}

static int stage_of(const wh_http_call *call)
{
	switch ((enum wh__http_call_stage)call->stage) {
	case WH__HTTP_CALL_WAITING:
		return WH_HTTP_STAGE_LINE;
	case WH__HTTP_CALL_CONNECTING:
		return WH_HTTP_STAGE_CONNECT;
	case WH__HTTP_CALL_PROXY:
		return WH_HTTP_STAGE_PROXY;
	case WH__HTTP_CALL_TLS:
		return WH_HTTP_STAGE_TLS;
	case WH__HTTP_CALL_HEAD:
		return !call->withheld && (!call->request_done || (call->link && call->link->is_sending))
		               ? WH_HTTP_STAGE_SEND
		               : WH_HTTP_STAGE_RESPONSE;
	default:
		return WH_HTTP_STAGE_BODY;
	}
}

void wh__http_failure_note(wh_http_call *call, int64_t error)
{
	const int64_t total_ns = call->total_ns, spent = wh_now(call->client->loop) - call->started_at;
	struct wh_http_failure *failure = &call->failure;

	*failure = (struct wh_http_failure){.error = error, .stage = stage_of(call)};
	failure->total = error == -ETIMEDOUT && total_ns > 0 && spent >= total_ns;
	failure->proxy_status = error == -WH_EHTTP_PROXY ? call->proxy_status : 0;
	if (call->link && call->link->problem)
		snprintf(failure->detail, sizeof(failure->detail), "%s", call->link->problem->text);
	failure->text = error == -ETIMEDOUT ? time_outs[failure->stage] : wh_strerror(error);
	if (call->ret_failure)
		*call->ret_failure = *failure;
}

bool wh_http_call_failure(const wh_http_call *call, struct wh_http_failure *ret)
{
	if (call->failure.error == 0)
		return false;
	*ret = call->failure;
	return true;
}
