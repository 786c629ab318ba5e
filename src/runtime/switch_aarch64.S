/* src/runtime/switch_aarch64.S -- wh__context_switch() and wh__context_init() for AArch64; see context.h.
 *
 * On the stack of what stands still, from its stack pointer upwards:
 *
 *	  0  x19 to x28
 *	 80  x29, x30 (where it goes on)
 *	 96  d8 to d15
 *	160  FPCR, 8 bytes unused
 *
 * FPCR is written only when it differs: writing it makes the processor wait. The return is a plain ret, which needs no
 * landing pad where branch targets are enforced; BTI is claimed, guarded control stacks are not.
 */

#define FRAME 176

	.text
	.globl	wh__context_switch
	.hidden	wh__context_switch
	.type	wh__context_switch, %function
	.p2align 4
/* void wh__context_switch(struct wh__context *from: x0, struct wh__context *to: x1) */
wh__context_switch:
	.cfi_startproc
	hint	#34			/* bti c */
	sub	sp, sp, #FRAME
	.cfi_adjust_cfa_offset FRAME
	stp	x19, x20, [sp, #0]
	.cfi_rel_offset x19, 0
	.cfi_rel_offset x20, 8
	stp	x21, x22, [sp, #16]
	.cfi_rel_offset x21, 16
	.cfi_rel_offset x22, 24
	stp	x23, x24, [sp, #32]
	.cfi_rel_offset x23, 32
	.cfi_rel_offset x24, 40
	stp	x25, x26, [sp, #48]
	.cfi_rel_offset x25, 48
	.cfi_rel_offset x26, 56
	stp	x27, x28, [sp, #64]
	.cfi_rel_offset x27, 64
	.cfi_rel_offset x28, 72
	stp	x29, x30, [sp, #80]
	.cfi_rel_offset x29, 80
	.cfi_rel_offset x30, 88
	stp	d8, d9, [sp, #96]
	stp	d10, d11, [sp, #112]
	stp	d12, d13, [sp, #128]
	stp	d14, d15, [sp, #144]
	mrs	x9, fpcr
	str	x9, [sp, #160]
	mov	x10, sp
	/* Both stacks have the same layout here: what is said of one's frame is true of the other's. */
	str	x10, [x0]
	ldr	x10, [x1]
	mov	sp, x10
	ldr	x10, [sp, #160]
	cmp	x10, x9
	b.eq	1f
	msr	fpcr, x10
1:	ldp	x19, x20, [sp, #0]
	ldp	x21, x22, [sp, #16]
	ldp	x23, x24, [sp, #32]
	ldp	x25, x26, [sp, #48]
	ldp	x27, x28, [sp, #64]
	ldp	x29, x30, [sp, #80]
	ldp	d8, d9, [sp, #96]
	ldp	d10, d11, [sp, #112]
	ldp	d12, d13, [sp, #128]
	ldp	d14, d15, [sp, #144]
	add	sp, sp, #FRAME
	.cfi_adjust_cfa_offset -FRAME
	.cfi_restore x19
	.cfi_restore x20
	.cfi_restore x21
	.cfi_restore x22
	.cfi_restore x23
	.cfi_restore x24
	.cfi_restore x25
	.cfi_restore x26
	.cfi_restore x27
	.cfi_restore x28
	.cfi_restore x29
	.cfi_restore x30
	ret
	.cfi_endproc
	.size	wh__context_switch, . - wh__context_switch

	.type	begin, %function
	.p2align 4
/* Where a new context begins: x19 is the function, x20 its argument. Nobody called: here a debugger's walk ends. */
begin:
	.cfi_startproc
	.cfi_undefined x30
	.cfi_undefined x29
	mov	x0, x20
	blr	x19
	brk	#1
	.cfi_endproc
	.size	begin, . - begin

	.globl	wh__context_init
	.hidden	wh__context_init
	.type	wh__context_init, %function
	.p2align 4
/* void wh__context_init(struct wh__context *: x0, void *low: x1, size_t bytes: x2, fn: x3, void *arg: x4) */
wh__context_init:
	.cfi_startproc
	hint	#34			/* bti c */
	add	x9, x1, x2
	sub	x9, x9, #FRAME
	stp	x3, x4, [x9, #0]
	stp	xzr, xzr, [x9, #16]
	stp	xzr, xzr, [x9, #32]
	stp	xzr, xzr, [x9, #48]
	stp	xzr, xzr, [x9, #64]
	adr	x10, begin
	stp	xzr, x10, [x9, #80]	/* x29: the end of the chain of frames */
	stp	xzr, xzr, [x9, #96]
	stp	xzr, xzr, [x9, #112]
	stp	xzr, xzr, [x9, #128]
	stp	xzr, xzr, [x9, #144]
	mrs	x10, fpcr
	stp	x10, xzr, [x9, #160]
	str	x9, [x0]
	ret
	.cfi_endproc
	.size	wh__context_init, . - wh__context_init

	/* GNU_PROPERTY_AARCH64_FEATURE_1_AND: BTI */
	.section .note.gnu.property, "a", %note
	.p2align 3
	.long	4
	.long	16
	.long	5
	.asciz	"GNU"
	.long	0xc0000000
	.long	4
	.long	1
	.long	0
	.section .note.GNU-stack, "", %progbits
