/* src/runtime/wheel.c -- see wheel.h for the contract.
 *
 * Why a wheel and not a heap: almost every time-out is re-armed or cancelled before it fires, so arming and
 * cancelling dominate, and a heap pays log n for both. A timer lies in the level of the highest bit group in which
 * its tick differs from now; when time enters its slot it moves down, at most once a level. Within the lowest
 * level a slot is one tick: a timer whose tick is now but whose instant is not yet stays for the next look, so
 * none fires early.
 */
#include "runtime/wheel.h"

#include <assert.h>
#include <string.h>

enum { TICK_SHIFT = 16, SLOT_BITS = 6 };

static int64_t tick_of(int64_t at)
{
	return at < 0 ? 0 : at >> TICK_SHIFT;
}

void wh__wheel_init(struct wh__wheel *wheel, int64_t now)
{
	memset(wheel, 0, sizeof *wheel);
	wheel->tick = tick_of(now);
}

static void place(const struct wh__wheel *wheel, int64_t tick, unsigned *ret_level, unsigned *ret_slot)
{
	if (tick < wheel->tick)
		tick = wheel->tick;
	uint64_t differs = (uint64_t)(tick ^ wheel->tick);
	unsigned level = differs ? (63U - (unsigned)__builtin_clzll(differs)) / SLOT_BITS : 0;
	assert(level < WH__WHEEL_LEVELS); /* 48 bits of ticks: all of int64_t nanoseconds */
	*ret_level = level;
	*ret_slot = (unsigned)((uint64_t)tick >> (level * SLOT_BITS)) % WH__WHEEL_SLOTS;
}

/* Where an armed timer lies: level * WH__WHEEL_SLOTS + slot, or DUE. */
enum { DUE = WH__WHEEL_LEVELS * WH__WHEEL_SLOTS };

static struct wh__op **head_of(struct wh__wheel *wheel, unsigned where)
{
	return where == DUE ? &wheel->due : &wheel->slots[where / WH__WHEEL_SLOTS][where % WH__WHEEL_SLOTS];
}

static void put(struct wh__wheel *wheel, unsigned where, struct wh__op *op)
{
	struct wh__op **head = head_of(wheel, where);
	/* a ring: the head's prev is the last, so that timers of one slot keep their order */
	if (*head) {
		op->next = *head;
		op->prev = (*head)->prev;
		op->prev->next = op;
		(*head)->prev = op;
	} else {
		op->next = op->prev = op;
		*head = op;
		if (where != DUE)
			wheel->occupied[where / WH__WHEEL_SLOTS] |= UINT64_C(1) << where % WH__WHEEL_SLOTS;
	}
	op->engine_data = (void *)(uintptr_t)where;
}

static void insert(struct wh__wheel *wheel, struct wh__op *op)
{
	unsigned level, slot;
	place(wheel, tick_of(op->at), &level, &slot);
	put(wheel, level * WH__WHEEL_SLOTS + slot, op);
}

static void take_out(struct wh__wheel *wheel, struct wh__op *op)
{
	unsigned where = (unsigned)(uintptr_t)op->engine_data;
	struct wh__op **head = head_of(wheel, where);
	if (op->next == op) {
		*head = NULL;
		if (where != DUE)
			wheel->occupied[where / WH__WHEEL_SLOTS] &= ~(UINT64_C(1) << where % WH__WHEEL_SLOTS);
	} else {
		op->prev->next = op->next;
		op->next->prev = op->prev;
		if (*head == op)
			*head = op->next;
	}
	op->next = op->prev = NULL;
}

void wh__wheel_arm(struct wh__wheel *wheel, struct wh__op *op)
{
	insert(wheel, op);
	wheel->armed_count++;
}

void wh__wheel_disarm(struct wh__wheel *wheel, struct wh__op *op)
{
	assert(op->next && wheel->armed_count > 0);
	take_out(wheel, op);
	wheel->armed_count--;
}

/* The tick at which the slot of a level is entered next. */
static int64_t slot_tick(const struct wh__wheel *wheel, unsigned level, unsigned slot)
{
	unsigned shift = level * SLOT_BITS;
	uint64_t above = (uint64_t)wheel->tick >> (shift + SLOT_BITS) << (shift + SLOT_BITS);
	return (int64_t)(above | (uint64_t)slot << shift);
}

/* The nearest occupied slot. Slots of a level lie ahead of its present one (those behind are empty by construction),
 * and every slot of a lower level comes before any of a higher one. */
static bool nearest(const struct wh__wheel *wheel, unsigned *ret_level, unsigned *ret_slot)
{
	for (unsigned level = 0; level < WH__WHEEL_LEVELS; level++)
		if (wheel->occupied[level]) {
			*ret_level = level;
			*ret_slot = (unsigned)__builtin_ctzll(wheel->occupied[level]);
			return true;
		}
	return false;
}

/* Empty a slot that time has entered: timers go to a lower level, or are due, or (of the present tick, with a part of
 * it still to come) stay. */
static bool empty_slot(struct wh__wheel *wheel, unsigned level, unsigned slot, int64_t now)
{
	struct wh__op *op, *later = NULL, **later_last = &later;
	while ((op = wheel->slots[level][slot]) != NULL) {
		take_out(wheel, op);
		if (level > 0) {
			insert(wheel, op);
		} else if (op->at > now) {
			*later_last = op;
			later_last = &op->next;
		} else {
			put(wheel, DUE, op);
		}
	}
	bool some_stay = later != NULL;
	for (struct wh__op *next; later; later = next) {
		next = later->next;
		insert(wheel, later);
	}
	return some_stay;
}

/* Two lists, each by instant, into one; of equal instants those of a come first. */
static struct wh__op *merge(struct wh__op *a, struct wh__op *b)
{
	struct wh__op *merged = NULL, **last = &merged;
	while (a && b) {
		struct wh__op **from = b->at < a->at ? &b : &a;
		*last = *from;
		last = &(*last)->next;
		*from = *last;
	}
	*last = a ? a : b;
	return merged;
}

/* A tick holds timers of several instants, and those armed for the past lie in the present one. */
static void sort_due(struct wh__wheel *wheel)
{
	enum { LISTS = 32 }; /* the i-th is empty or 2^i long */
	struct wh__op *lists[LISTS] = {NULL}, *op = wheel->due, *sorted = NULL;
	while (op->next != wheel->due && op->at <= op->next->at)
		op = op->next;
	if (op->next == wheel->due)
		return; /* as it nearly always is */
	wheel->due->prev->next = NULL;
	for (op = wheel->due; op;) {
		struct wh__op *next = op->next, *carried = op;
		unsigned int i = 0;
		op->next = NULL;
		for (; lists[i]; i++) {
			carried = merge(lists[i], carried);
			lists[i] = NULL;
		}
		lists[i] = carried;
		op = next;
	}
	for (unsigned int i = 0; i < LISTS; i++)
		sorted = merge(lists[i], sorted);
	wheel->due = sorted;
	for (op = sorted; op->next; op = op->next)
		op->next->prev = op;
	op->next = sorted;
	sorted->prev = op;
}

void wh__wheel_advance(struct wh__wheel *wheel, int64_t now, void (*fire)(struct wh__op *op))
{
	int64_t target = tick_of(now);
	unsigned level, slot;
	struct wh__op *op;
	while (nearest(wheel, &level, &slot)) {
		int64_t tick = slot_tick(wheel, level, slot);
		if (tick > target)
			break;
		if (tick > wheel->tick)
			wheel->tick = tick;
		if (empty_slot(wheel, level, slot, now))
			break;
	}
	if (target > wheel->tick)
		wheel->tick = target; /* before the nearest slot, so no timer's place changes */
	if (wheel->due)
		sort_due(wheel);
	/* firing may disarm others that are due: they leave the ring */
	while ((op = wheel->due) != NULL) {
		take_out(wheel, op);
		wheel->armed_count--;
		fire(op);
	}
}

int64_t wh__wheel_wait(const struct wh__wheel *wheel, int64_t now)
{
	unsigned level, slot;
	if (!nearest(wheel, &level, &slot))
		return -1;
	if (level > 0) {
		int64_t at = slot_tick(wheel, level, slot) << TICK_SHIFT;
		return at > now ? at - now : 0;
	}
	int64_t at = INT64_MAX;
	const struct wh__op *first = wheel->slots[level][slot], *op = first;
	do {
		if (op->at < at)
			at = op->at;
		op = op->next;
	} while (op != first);
	return at > now ? at - now : 0;
}
