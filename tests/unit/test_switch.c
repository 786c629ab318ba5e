/* tests/unit/test_switch.c -- the switch of stacks: what a called function must preserve is preserved.
 *
 * It needs nothing but libc and the switch, so that it can be built for another processor and run by an emulator
 * (tests/unit/test_switch_aarch64). Exit status 0, or 1 with a line for each check that failed.
 */
#include <fenv.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unwind.h>

#include "runtime/context.h"

enum { STACK_BYTES = 65536, ROUNDS = 1000 };

static int failures;

#define CHECK(what)                                                       \
	do {                                                              \
		if (!(what)) {                                            \
			printf("line %d: not so: %s\n", __LINE__, #what); \
			failures++;                                       \
		}                                                         \
	} while (0)

/* Fills every register that a call preserves from seed, switches, and counts those that are not as they were. */
uint64_t switch_with_registers(struct wh__context *from, struct wh__context *to, uint64_t seed);

#if defined(__x86_64__)
__asm__(".text\n"
        ".globl switch_with_registers\n"
        ".type switch_with_registers, @function\n"
        "switch_with_registers:\n"
        "	push %rbp\n"
        "	push %rbx\n"
        "	push %r12\n"
        "	push %r13\n"
        "	push %r14\n"
        "	push %r15\n"
        "	push %rdx\n"
        "	lea 1(%rdx), %rbx\n"
        "	lea 2(%rdx), %rbp\n"
        "	lea 3(%rdx), %r12\n"
        "	lea 4(%rdx), %r13\n"
        "	lea 5(%rdx), %r14\n"
        "	lea 6(%rdx), %r15\n"
        "	call wh__context_switch\n"
        "	pop %rdx\n"
        "	sub %rdx, %rbx\n"
        "	sub %rdx, %rbp\n"
        "	sub %rdx, %r12\n"
        "	sub %rdx, %r13\n"
        "	sub %rdx, %r14\n"
        "	sub %rdx, %r15\n"
        "	xor %eax, %eax\n"
        "	cmp $1, %rbx\n"
        "	setne %cl\n"
        "	movzbl %cl, %ecx\n"
        "	add %rcx, %rax\n"
        "	cmp $2, %rbp\n"
        "	setne %cl\n"
        "	add %rcx, %rax\n"
        "	cmp $3, %r12\n"
        "	setne %cl\n"
        "	add %rcx, %rax\n"
        "	cmp $4, %r13\n"
        "	setne %cl\n"
        "	add %rcx, %rax\n"
        "	cmp $5, %r14\n"
        "	setne %cl\n"
        "	add %rcx, %rax\n"
        "	cmp $6, %r15\n"
        "	setne %cl\n"
        "	add %rcx, %rax\n"
        "	pop %r15\n"
        "	pop %r14\n"
        "	pop %r13\n"
        "	pop %r12\n"
        "	pop %rbx\n"
        "	pop %rbp\n"
        "	ret\n"
        ".size switch_with_registers, . - switch_with_registers\n");
#elif defined(__aarch64__)
#define EACH(integer, floating)                                                                         \
	integer(19) integer(20) integer(21) integer(22) integer(23) integer(24) integer(25) integer(26) \
		integer(27) integer(28) integer(29) floating(8) floating(9) floating(10) floating(11)   \
			floating(12) floating(13) floating(14) floating(15)
#define SET_X(n)  "	add x" #n ", x2, #" #n "\n"
#define SET_D(n)  "	add x9, x2, #100 + " #n "\n	fmov d" #n ", x9\n"
#define TEST_X(n) "	add x9, x2, #" #n "\n	cmp x9, x" #n "\n	cinc x0, x0, ne\n"
#define TEST_D(n) \
	"	add x9, x2, #100 + " #n "\n	fmov x10, d" #n "\n	cmp x9, x10\n	cinc x0, x0, ne\n"
__asm__(".text\n"
        ".globl switch_with_registers\n"
        ".type switch_with_registers, %function\n"
        "switch_with_registers:\n"
        "	sub sp, sp, #176\n"
        "	stp x19, x20, [sp, #0]\n"
        "	stp x21, x22, [sp, #16]\n"
        "	stp x23, x24, [sp, #32]\n"
        "	stp x25, x26, [sp, #48]\n"
        "	stp x27, x28, [sp, #64]\n"
        "	stp x29, x30, [sp, #80]\n"
        "	stp d8, d9, [sp, #96]\n"
        "	stp d10, d11, [sp, #112]\n"
        "	stp d12, d13, [sp, #128]\n"
        "	stp d14, d15, [sp, #144]\n"
        "	str x2, [sp, #160]\n" EACH(
		SET_X, SET_D) "	bl wh__context_switch\n"
                              "	ldr x2, [sp, #160]\n"
                              "	mov x0, #0\n" EACH(
				      TEST_X,
				      TEST_D) "	ldp x19, x20, [sp, #0]\n"
                                              "	ldp x21, x22, [sp, #16]\n"
                                              "	ldp x23, x24, [sp, #32]\n"
                                              "	ldp x25, x26, [sp, #48]\n"
                                              "	ldp x27, x28, [sp, #64]\n"
                                              "	ldp x29, x30, [sp, #80]\n"
                                              "	ldp d8, d9, [sp, #96]\n"
                                              "	ldp d10, d11, [sp, #112]\n"
                                              "	ldp d12, d13, [sp, #128]\n"
                                              "	ldp d14, d15, [sp, #144]\n"
                                              "	add sp, sp, #176\n"
                                              "	ret\n"
                                              ".size switch_with_registers, . - switch_with_registers\n");
#else
uint64_t switch_with_registers(struct wh__context *from, struct wh__context *to, uint64_t seed)
{
	wh__context_switch(from, to);
	return 0;
}
#endif

static struct wh__context here, there;
static _Alignas(64) uint8_t stack[STACK_BYTES];
static uint64_t lost_there;

static void keep_registers(void *arg)
{
	CHECK(arg == &failures);
	for (uint64_t i = 0;; i++)
		lost_there += switch_with_registers(&there, &here, 1000 + i * 7);
}

static void registers_are_preserved(void)
{
	uint64_t lost = 0;
	wh__context_init(&there, stack, sizeof stack, keep_registers, &failures);
	for (uint64_t i = 0; i < ROUNDS; i++)
		lost += switch_with_registers(&here, &there, 1000000 + i * 13);
	CHECK(lost == 0);
	CHECK(lost_there == 0);
}

static volatile double one = 1, three = 3;

/* A third as it is rounded now: the mode of the registers, not only what fegetround() remembers. */
static double a_third(void)
{
	return one / three;
}

static void round_down(void *arg)
{
	CHECK(fegetround() == FE_UPWARD); /* as its maker had it */
	double *third = arg;
	fesetround(FE_DOWNWARD);
	for (;;) {
		CHECK(fegetround() == FE_DOWNWARD);
		*third = a_third();
		wh__context_switch(&there, &here);
	}
}

static void rounding_is_preserved(void)
{
	double below = 0;
	fesetround(FE_UPWARD);
	wh__context_init(&there, stack, sizeof stack, round_down, &below);
	for (int i = 0; i < ROUNDS; i++) {
		wh__context_switch(&here, &there);
		CHECK(fegetround() == FE_UPWARD);
		CHECK(a_third() > below && below > 0.3);
		below = 0;
	}
	fesetround(FE_TONEAREST);
}

/* Takes doubles through va_arg: compiled code stores them with aligned moves. */
static __attribute__((format(printf, 3, 4))) int text_of(char *ret, size_t bytes, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int len = vsnprintf(ret, bytes, format, args);
	va_end(args);
	return len;
}

static char text[100];

static void print(void *arg)
{
	_Alignas(64) char aligned[64];
	(void)arg;
	CHECK((uintptr_t)aligned % 64 == 0);
	CHECK((uintptr_t)__builtin_frame_address(0) % 16 == 0);
	(void)text_of(text, sizeof text, "%.3f %.3Lf %d", 1.5, (long double)2.25, 7);
	wh__context_switch(&there, &here);
}

static void stacks_are_aligned(void)
{
	for (size_t bytes = sizeof stack - 64; bytes <= sizeof stack; bytes += 16) {
		memset(text, 0, sizeof text);
		wh__context_init(&there, stack, bytes, print, NULL);
		wh__context_switch(&here, &there);
		CHECK(strcmp(text, "1.500 2.250 7") == 0);
	}
}

static int frames;

static _Unwind_Reason_Code count_frame(struct _Unwind_Context *context, void *arg)
{
	(void)context;
	return ++*(int *)arg < 100 ? _URC_NO_REASON : _URC_END_OF_STACK;
}

static __attribute__((noinline)) void walk(int depth)
{
	if (depth > 0)
		walk(depth - 1);
	else
		(void)_Unwind_Backtrace(count_frame, &frames);
	__asm__ volatile("" ::: "memory"); /* no tail call */
}

static void walk_back(void *arg)
{
	(void)arg;
	walk(5);
	wh__context_switch(&there, &here);
}

/* A debugger, perf and an exception find every frame, and the end. */
static void stacks_can_be_walked(void)
{
	frames = 0;
	wh__context_init(&there, stack, sizeof stack, walk_back, NULL);
	wh__context_switch(&here, &there);
	CHECK(frames >= 7 && frames < 20);
}

struct link {
	struct wh__context context;
	int count;
};

static struct link links[100];
static uint8_t stacks[100][16384] __attribute__((aligned(64)));

static void pass_on(void *arg)
{
	struct link *link = arg;
	for (;;) {
		link->count++;
		wh__context_switch(&link->context, link == links ? &here : &(link - 1)->context);
	}
}

static void any_number_of_contexts(void)
{
	for (int i = 0; i < 100; i++)
		wh__context_init(&links[i].context, stacks[i], sizeof stacks[i], pass_on, &links[i]);
	for (int round = 0; round < 10; round++)
		wh__context_switch(&here, &links[99].context);
	for (int i = 0; i < 100; i++)
		CHECK(links[i].count == 10);
}

int main(void)
{
	registers_are_preserved();
	rounding_is_preserved();
	stacks_are_aligned();
	stacks_can_be_walked();
	any_number_of_contexts();
	return failures ? 1 : 0;
}
