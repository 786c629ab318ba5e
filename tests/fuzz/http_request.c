/* tests/fuzz/http_request.c -- requests, their bodies, and what is pipelined behind them. See http_message.h. */
#include "http_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	fuzz_message(data, len, false, false);
	return 0;
}
