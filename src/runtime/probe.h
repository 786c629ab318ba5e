/* src/runtime/probe.h -- static probes of the library, for bpftrace, perf and SystemTap.
 *
 * WH__PROBE1() to WH__PROBE6(): a name, and as many integers or pointers. A probe is one no-operation instruction and a note in the ELF
 * file that says where the arguments are; without <sys/sdt.h> at build time it is nothing. docs/observability.md lists them.
 *
 * Used by: runtime, engines.  Thread: any.
 */
#ifndef WH_RUNTIME_PROBE_H
#define WH_RUNTIME_PROBE_H

#include "config.h"

#if WH_HAVE_PROBES
#include <sys/sdt.h>
#if defined(__clang__) /* of what <sys/sdt.h> is made of */
#pragma clang diagnostic ignored "-Wgnu-zero-variadic-macro-arguments"
#endif
#define WH__PROBE1(name, a)                STAP_PROBE1(whilst, name, a)
#define WH__PROBE2(name, a, b)             STAP_PROBE2(whilst, name, a, b)
#define WH__PROBE3(name, a, b, c)          STAP_PROBE3(whilst, name, a, b, c)
#define WH__PROBE4(name, a, b, c, d)       STAP_PROBE4(whilst, name, a, b, c, d)
#define WH__PROBE5(name, a, b, c, d, e)    STAP_PROBE5(whilst, name, a, b, c, d, e)
#define WH__PROBE6(name, a, b, c, d, e, f) STAP_PROBE6(whilst, name, a, b, c, d, e, f)
#else
#define WH__PROBE1(name, a)                ((void)0)
#define WH__PROBE2(name, a, b)             ((void)0)
#define WH__PROBE3(name, a, b, c)          ((void)0)
#define WH__PROBE4(name, a, b, c, d)       ((void)0)
#define WH__PROBE5(name, a, b, c, d, e)    ((void)0)
#define WH__PROBE6(name, a, b, c, d, e, f) ((void)0)
#endif

#endif
