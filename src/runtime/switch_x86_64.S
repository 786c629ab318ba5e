/* src/runtime/switch_x86_64.S -- wh__context_switch() and wh__context_init() for x86-64; see context.h.
 *
 * On the stack of what stands still, from its stack pointer upwards:
 *
 *	 0  MXCSR (4 bytes), x87 control word (2), 2 unused
 *	 8  r15 r14 r13 r12 rbx rbp
 *	56  where it goes on
 *
 * The switch ends with pop and jmp, not with ret: the processor's stack of return addresses would predict the
 * return to the caller on the stack that was left, wrongly each time, at twice the cost of the whole switch.
 *
 * With -fcf-protection the object says that it allows indirect branch tracking (the jump is exempt by notrack). It
 * does not say so of shadow stacks, which it does not switch: where the system enforces those, build with
 * coroutines=ucontext, which the C library switches.
 */

#if defined(__CET__) && (__CET__ & 1)
#define LANDING endbr64
#else
#define LANDING
#endif

	.text
	.globl	wh__context_switch
	.hidden	wh__context_switch
	.type	wh__context_switch, @function
	.p2align 4
/* void wh__context_switch(struct wh__context *from: rdi, struct wh__context *to: rsi) */
wh__context_switch:
	.cfi_startproc
	LANDING
	pushq	%rbp
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbp, 0
	pushq	%rbx
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset rbx, 0
	pushq	%r12
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r12, 0
	pushq	%r13
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r13, 0
	pushq	%r14
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r14, 0
	pushq	%r15
	.cfi_adjust_cfa_offset 8
	.cfi_rel_offset r15, 0
	subq	$8, %rsp
	.cfi_adjust_cfa_offset 8
	stmxcsr	(%rsp)
	fnstcw	4(%rsp)
	/* Both stacks have the same layout here: what is said of one's frame is true of the other's. */
	movq	%rsp, (%rdi)
	movq	(%rsi), %rsp
	ldmxcsr	(%rsp)
	fldcw	4(%rsp)
	addq	$8, %rsp
	.cfi_adjust_cfa_offset -8
	popq	%r15
	.cfi_adjust_cfa_offset -8
	.cfi_restore r15
	popq	%r14
	.cfi_adjust_cfa_offset -8
	.cfi_restore r14
	popq	%r13
	.cfi_adjust_cfa_offset -8
	.cfi_restore r13
	popq	%r12
	.cfi_adjust_cfa_offset -8
	.cfi_restore r12
	popq	%rbx
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbx
	popq	%rbp
	.cfi_adjust_cfa_offset -8
	.cfi_restore rbp
	popq	%rcx
	.cfi_adjust_cfa_offset -8
	.cfi_register rip, rcx
#if defined(__CET__) && (__CET__ & 1)
	notrack jmp *%rcx
#else
	jmp	*%rcx
#endif
	.cfi_endproc
	.size	wh__context_switch, . - wh__context_switch

	.type	begin, @function
	.p2align 4
/* Where a new context begins: r12 is the function, r13 its argument. Nobody called: here a debugger's walk ends. */
begin:
	.cfi_startproc
	.cfi_undefined rip
	.cfi_undefined rbp
	LANDING
	movq	%r13, %rdi
	call	*%r12
	ud2
	.cfi_endproc
	.size	begin, . - begin

	.globl	wh__context_init
	.hidden	wh__context_init
	.type	wh__context_init, @function
	.p2align 4
/* void wh__context_init(struct wh__context *: rdi, void *low: rsi, size_t bytes: rdx, fn: rcx, void *arg: r8) */
wh__context_init:
	.cfi_startproc
	LANDING
	leaq	-64(%rsi,%rdx), %rax
	stmxcsr	(%rax)
	fnstcw	4(%rax)
	movq	$0, 8(%rax)
	movq	$0, 16(%rax)
	movq	%r8, 24(%rax)	/* r13 */
	movq	%rcx, 32(%rax)	/* r12 */
	movq	$0, 40(%rax)
	movq	$0, 48(%rax)	/* rbp: the end of the chain of frames */
	leaq	begin(%rip), %rcx
	movq	%rcx, 56(%rax)
	movq	%rax, (%rdi)
	ret
	.cfi_endproc
	.size	wh__context_init, . - wh__context_init

#if defined(__CET__) && (__CET__ & 1)
	/* GNU_PROPERTY_X86_FEATURE_1_AND: IBT */
	.section .note.gnu.property, "a", @note
	.p2align 3
	.long	4
	.long	16
	.long	5
	.asciz	"GNU"
	.long	0xc0000002
	.long	4
	.long	1
	.long	0
#endif
	.section .note.GNU-stack, "", @progbits
