/* src/job/bytes.h -- numbers in records: little-endian, at any address. Used by: src/job only. */
#ifndef JOB_BYTES_H
#define JOB_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are copied as they are in memory");

static inline void put16(uint8_t *to, size_t value)
{
	uint16_t v = (uint16_t)value;
	memcpy(to, &v, sizeof(v));
}

static inline void put32(uint8_t *to, size_t value)
{
	uint32_t v = (uint32_t)value;
	memcpy(to, &v, sizeof(v));
}

static inline void put64(uint8_t *to, uint64_t value)
{
	memcpy(to, &value, sizeof(value));
}

static inline void put_i64(uint8_t *to, int64_t value)
{
	memcpy(to, &value, sizeof(value));
}

static inline uint16_t get16(const uint8_t *from)
{
	uint16_t v;
	memcpy(&v, from, sizeof(v));
	return v;
}

static inline uint32_t get32(const uint8_t *from)
{
	uint32_t v;
	memcpy(&v, from, sizeof(v));
	return v;
}

static inline uint64_t get64(const uint8_t *from)
{
	uint64_t v;
	memcpy(&v, from, sizeof(v));
	return v;
}

static inline int64_t get_i64(const uint8_t *from)
{
	int64_t v;
	memcpy(&v, from, sizeof(v));
	return v;
}

/* 48 bits */
static inline void put48(uint8_t *to, uint64_t value)
{
	memcpy(to, &value, 6);
}

static inline uint64_t get48(const uint8_t *from)
{
	uint64_t v = 0;
	memcpy(&v, from, 6);
	return v;
}

#endif
