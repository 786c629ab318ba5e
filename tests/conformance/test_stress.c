/* tests/conformance/test_stress.c -- everything at once: streams, files, work, cancels and closes in random order.
 *
 * What must hold: every operation ends exactly once; a receive that is cancelled loses no byte; a close ends after
 * what was on its descriptor; what was written is read. $WHILST_SEED chooses another run; a failing run prints its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "whilst/whilst.h"

enum { STREAMS = 24, BLOCKS = 16, BLOCK_BYTES = 5000, CHUNK_MAX = 40000, STEPS = 6000 };

struct stream {
	int fds[2];              /* sends on 0, receives on 1 */
	uint64_t sent, received; /* bytes; the byte at position p is f(p, number) */
	uint64_t sending, number;
	wh_future send, receive;
	bool is_sending, is_receiving;
	int closing; /* closes under way */
	bool broken; /* a send was cancelled midway: nobody knows how far it got */
	uint8_t out[CHUNK_MAX], in[CHUNK_MAX];
};

struct block {
	bool busy, known;
	uint8_t version;
	wh_future future;
	uint8_t bytes[BLOCK_BYTES];
	bool writing;
};

static wh_loop *loop;
static uint64_t seed, random_state;
static struct stream streams[STREAMS];
static struct block blocks[BLOCKS];
static int file_fd, steps, tickers;
static uint64_t started, ended, stream_count;
static atomic_uint_fast64_t worked;

static uint64_t draw(uint64_t below)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % below;
}

static void check(bool holds, const char *what, int64_t n)
{
	if (holds)
		return;
	fprintf(stderr, "%s: not so: %s (%lld), WHILST_SEED=%llu\n", wh_engine_name(loop), what, (long long)n,
	        (unsigned long long)seed);
	abort();
}

static uint8_t byte_at(const struct stream *s, uint64_t position)
{
	return (uint8_t)((position * 131 + s->number * 17) ^ (position >> 8));
}

/* ---- streams ---- */

static void open_stream(struct stream *s)
{
	memset(s, 0, offsetof(struct stream, out));
	s->number = stream_count++;
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, s->fds) == 0, "socketpair",
	      errno);
}

static void on_closed(wh_loop *of, wh_res res, void *arg)
{
	struct stream *s = arg;
	ended++;
	check(res.n == 0, "close succeeds", res.n);
	if (--s->closing > 0)
		return;
	check(!s->is_sending && !s->is_receiving, "a close ends after what was on its descriptor", 0);
	open_stream(s);
}

static void close_stream(struct stream *s)
{
	if (s->closing)
		return;
	s->closing = 2;
	for (int i = 0; i < 2; i++) {
		started++;
		wh_then(wh_close(loop, s->fds[i]), on_closed, s);
	}
}

static void on_sent(wh_loop *of, wh_res res, void *arg)
{
	struct stream *s = arg;
	ended++;
	check(s->is_sending, "a send ends once", res.n);
	s->is_sending = false;
	if (res.n >= 0) {
		check((uint64_t)res.n == s->sending, "a send ends with all", res.n);
		s->sent += s->sending;
		return;
	}
	check(res.n == -ECANCELED || res.n == -EPIPE || res.n == -ECONNRESET, "a send's error", res.n);
	s->broken = true;
	close_stream(s);
}

static void start_send(struct stream *s)
{
	if (s->is_sending || s->broken || s->closing)
		return;
	s->sending = 1 + draw(CHUNK_MAX);
	for (uint64_t i = 0; i < s->sending; i++)
		s->out[i] = byte_at(s, s->sent + i);
	s->is_sending = true;
	started++;
	if (draw(2)) {
		struct iovec iov[2] = {{s->out, s->sending / 2},
		                       {s->out + s->sending / 2, s->sending - s->sending / 2}};
		s->send = wh_sendv_all(loop, s->fds[0], iov, 2);
	} else {
		s->send = wh_send_all(loop, s->fds[0], s->out, s->sending);
	}
	/* A future that is given to a callback is consumed, but its name can still be cancelled. */
	wh_then(s->send, on_sent, s);
}

static void on_received(wh_loop *of, wh_res res, void *arg)
{
	struct stream *s = arg;
	ended++;
	check(s->is_receiving, "a receive ends once", res.n);
	s->is_receiving = false;
	struct wh_buf *buf = res.ptr;
	const uint8_t *bytes = buf ? buf->data : s->in;
	check(res.n > 0 || !buf, "no buffer without bytes", res.n);
	for (int64_t i = 0; i < res.n; i++)
		check(bytes[i] == byte_at(s, s->received + (uint64_t)i),
		      "bytes arrive in order, none twice, none lost", i);
	if (res.n > 0)
		s->received += (uint64_t)res.n;
	wh_buf_put(buf);
	if (res.n == 0)
		check(s->closing > 0, "the end of a stream is one that was made", 0);
	if (res.n < 0)
		check(res.n == -ECANCELED || (res.n == -ECONNRESET && s->closing), "a receive's error",
		      res.n);
}

static void start_receive(struct stream *s)
{
	if (s->is_receiving || s->closing)
		return;
	s->is_receiving = true;
	started++;
	s->receive =
		draw(2) ? wh_recv_buf(loop, s->fds[1]) : wh_recv(loop, s->fds[1], s->in, 1 + draw(CHUNK_MAX));
	wh_then(s->receive, on_received, s);
}

/* ---- blocks of a file ---- */

static void on_block(wh_loop *of, wh_res res, void *arg)
{
	struct block *block = arg;
	ended++;
	check(block->busy, "a transfer ends once", res.n);
	block->busy = false;
	if (res.n == -ECANCELED) {
		block->known = block->known && !block->writing;
		return;
	}
	check(res.n == BLOCK_BYTES, "all is transferred", res.n);
	for (int i = 0; !block->writing && block->known && i < BLOCK_BYTES; i++)
		check(block->bytes[i] == (uint8_t)(block->version + i * 7), "what was written is read", i);
	block->known = block->known || block->writing;
}

static void start_block(void)
{
	uint64_t number = draw(BLOCKS);
	struct block *block = &blocks[number];
	if (block->busy)
		return;
	block->busy = true;
	block->writing = !block->known || draw(2);
	started++;
	if (block->writing) {
		block->version++;
		for (int i = 0; i < BLOCK_BYTES; i++)
			block->bytes[i] = (uint8_t)(block->version + i * 7);
		block->future = wh_pwrite_all(loop, file_fd, block->bytes, BLOCK_BYTES, number * BLOCK_BYTES);
	} else {
		memset(block->bytes, 0, BLOCK_BYTES);
		block->future = wh_pread_all(loop, file_fd, block->bytes, BLOCK_BYTES, number * BLOCK_BYTES);
	}
	wh_then(block->future, on_block, block);
}

/* ---- small ones ---- */

static void on_ended(wh_loop *of, wh_res res, void *arg)
{
	ended++;
	check(res.n >= 0 || res.n == -ECANCELED || res.n == -ETIMEDOUT, "it ends well", res.n);
}

static int64_t count_up(void *arg)
{
	return (int64_t)atomic_fetch_add(&worked, 1);
}

static void start_small(void)
{
	wh_future f;
	struct stream *s = &streams[draw(STREAMS)];
	switch (draw(5)) {
	case 0:
		f = wh_work(loop, count_up, NULL);
		break;
	case 1:
		f = wh_fsync(loop, file_fd, true);
		break;
	case 2:
		f = wh_size(loop, file_fd);
		break;
	case 3:
		/* what is being closed is no longer ours to look at */
		f = s->closing ? wh_sleep(loop, 0) : wh_ready(loop, s->fds[1], POLLIN);
		f = wh_deadline(f, wh_now(loop) + (int64_t)draw(2000000));
		break;
	default:
		f = wh_sleep(loop, (int64_t)draw(1000000));
		break;
	}
	started++;
	wh_then(f, on_ended, NULL);
	if (draw(4) == 0)
		wh_cancel(f);
}

static void on_tick(wh_loop *of, wh_res res, void *arg);

static void tick(void)
{
	wh_then(wh_sleep(loop, (int64_t)draw(30000)), on_tick, NULL);
}

static void finish(void)
{
	for (int i = 0; i < STREAMS; i++) {
		wh_cancel(streams[i].receive);
		wh_cancel(streams[i].send);
	}
}

static void on_tick(wh_loop *of, wh_res res, void *arg)
{
	struct stream *s = &streams[draw(STREAMS)];
	if (steps++ >= STEPS) {
		if (--tickers == 0)
			finish();
		return;
	}
	switch (draw(12)) {
	case 0:
	case 1:
	case 2:
		start_send(s);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		start_receive(s);
		break;
	case 7:
		if (s->is_receiving)
			wh_cancel(s->receive);
		break;
	case 8:
		if (s->is_sending && draw(8) == 0)
			wh_cancel(s->send);
		else if (draw(16) == 0)
			close_stream(s);
		break;
	case 9:
		start_block();
		break;
	case 10:
		if (draw(4) == 0)
			wh_cancel(blocks[draw(BLOCKS)].future);
		break;
	default:
		start_small();
		break;
	}
	tick();
}

static void all_at_once(void **state)
{
	struct wh_loop_options options = {.ring_entries = draw(2) ? 32 : 0};
	char path[] = "/tmp/whilst-test-XXXXXX";
	assert_int_equal(wh_loop_open(&loop, &options), 0);
	file_fd = mkstemp(path);
	assert_true(file_fd >= 0);
	unlink(path);
	for (int i = 0; i < STREAMS; i++)
		open_stream(&streams[i]);
	for (tickers = 0; tickers < 4; tickers++)
		tick();
	assert_int_equal(wh_loop_run(loop), 0);
	assert_int_equal(started, ended);
	assert_true(stream_count > STREAMS);
	struct wh_stats stats;
	wh_stats(loop, &stats);
	assert_int_equal(stats.in_flight, 0);
	/* And once more in the middle of it: close ends everything, no callback comes after it. */
	for (int i = 0; i < STREAMS; i++) {
		start_receive(&streams[i]);
		start_send(&streams[i]);
	}
	for (int i = 0; i < BLOCKS; i++)
		start_block();
	for (int i = 0; i < 20; i++)
		start_small();
	loop = wh_loop_close(loop);
	assert_int_equal(started, ended);
	for (int i = 0; i < STREAMS; i++) {
		close(streams[i].fds[0]);
		close(streams[i].fds[1]);
	}
	close(file_fd);
}

int main(void)
{
	const char *named = getenv("WHILST_SEED");
	seed = named ? strtoull(named, NULL, 10) : 20240131;
	random_state = seed * UINT64_C(0x9e3779b97f4a7c15) | 1;
	for (int i = 0; i < 8; i++)
		draw(2);
	const struct CMUnitTest tests[] = {cmocka_unit_test(all_at_once)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
