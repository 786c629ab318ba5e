/* tests/fuzz/http_response.c -- responses and their bodies. The first byte says whether HEAD was asked. See http_message.h. */
#include "http_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	if (len > 0)
		fuzz_message(data + 1, len - 1, true, data[0] == 'H');
	return 0;
}
