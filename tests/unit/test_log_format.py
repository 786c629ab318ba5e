#!/usr/bin/env python3
"""tests/unit/test_log_format.py SAMPLE -- a decoder written from docs/format-log.md, not from the code.

SAMPLE writes a log and prints the records that it holds; they, and every field that the document describes, must be what is
found in the files. XXH3 comes from libxxhash itself.
"""
import ctypes
import ctypes.util
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

try:
    XXHASH = ctypes.CDLL("libxxhash.so.0")
except OSError:
    print("skipped: libxxhash.so.0 cannot be loaded")
    sys.exit(77)


class Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


XXHASH.XXH3_64bits_withSeed.restype = ctypes.c_uint64
XXHASH.XXH3_64bits_withSeed.argtypes = [ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint64]
XXHASH.XXH3_128bits.restype = Hash128
XXHASH.XXH3_128bits.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

BLOCK = 4096
SEAL, TX_BEGIN, TX_CONT, TX_END = 1, 2, 4, 8


def check(data, seed):
    return XXHASH.XXH3_64bits_withSeed(data, len(data), seed % 2**64) % 2**32


def h128(data):
    value = XXHASH.XXH3_128bits(data, len(data))
    return struct.pack("<QQ", value.low, value.high)


class Decoder:
    """All groups and records of a folder; raises when anything differs from the document."""

    def __init__(self, folder):
        self.records, self.flags, self.epochs = [], [], []
        manifests = [self.manifest((folder / name).read_bytes()) for name in ("manifest-a", "manifest-b")]
        self.newest = max(manifests, key=lambda manifest: manifest["sequence"])
        # not always neighbours: a clean end writes the block anew whose writing was under way when it came
        assert manifests[0]["sequence"] != manifests[1]["sequence"]
        self.cluster = self.newest["cluster"]
        self.lsn, self.seq, self.chain, self.epoch, self.held = 0, 0, self.cluster, 0, None
        self.ends, self.bases = {}, {}
        names = sorted(path.name for path in folder.glob("seg-*"))
        assert names == [f"seg-{number:016x}.log" for number in range(len(names))], names
        self.opened = 0
        for number, name in enumerate(names):
            self.segment(number, (folder / name).read_bytes())
        assert self.held is None
        assert len({manifest["checkpoint"] for manifest in manifests}) == 1
        self.saved, self.saved_segments, self.saved_epochs = [], [], []
        self.checkpoint(folder, *self.newest["checkpoint"])

    def checkpoint(self, folder, lsn, size, trailer_hash):
        assert [path.name for path in folder.glob("*.ckp")] == [f"checkpoint-{lsn:016x}.ckp"]
        data = (folder / f"checkpoint-{lsn:016x}.ckp").read_bytes()
        head, tail = data[:BLOCK], data[-BLOCK:]
        assert len(data) == size and h128(tail) == trailer_hash and head[:8] == b"WHLOGCKP" and tail[:8] == b"WHLOGCKE"
        keys = "<I16sQQQII16sQQQ"
        form, cluster, salt, where, seq, epoch, zero, chain, segment, offset, _ = struct.unpack_from(keys, head, 12)
        assert struct.unpack_from("<I", head, 8)[0] == check(head[12:], salt) and not any(head[104:])
        assert struct.unpack_from("<I", tail, 8)[0] == check(tail[12:], salt) and not any(tail[56:])
        assert (form, cluster, where, zero) == (1, self.cluster, lsn, 0)
        assert self.ends[lsn] == (seq, epoch, chain), "C is not the end of the group that it says"
        assert self.bases[segment] + offset - 2 * BLOCK == lsn
        at, count, records, chain = BLOCK, 0, [], h128(head)
        while at < size - BLOCK:
            header = data[at:at + 64]
            magic, found, place, length, payload, held, zero, sequence, zero2 = struct.unpack_from("<4sIQIIIIQQ", header)
            assert magic == b"WHC1" and found == check(header[8:], salt) and zero == zero2 == 0
            body = data[at + 64:at + length]
            assert (place, sequence) == (at, count) and length % BLOCK == 0 and not any(body[payload:])
            chain = h128(chain + header[8:48] + h128(body))
            assert header[48:] == chain
            found = self.group_records(body[:payload], at + 64 - 96, salt, 0)
            assert len(found) == held
            records += found
            at, count = at + length, count + 1
        assert struct.unpack_from("<QQQ16s", tail, 16) == (size, count, len(records), chain) and at == size - BLOCK
        for record in records:
            if record[3] == 1:
                self.saved_epochs.append(struct.unpack("<IIQ", record[6]))
            elif record[3] == 2:
                number, _, _, base, end = struct.unpack("<QQQQQ", record[6])
                assert (self.bases[number], self.bases[number + 1]) == (base, end)
                self.saved_segments.append(number)
            else:
                self.saved.append(record[3:])
        assert self.saved_segments == list(range(segment))

    def manifest(self, data):
        assert len(data) == BLOCK and data[:8] == b"WHLOGMAN" and data[8:24] == h128(data[24:])
        keys = ("format", "flags", "sequence", "cluster", "first", "last", "durable", "epoch", "count", "chain", "wall")
        manifest = dict(zip(keys, struct.unpack_from("<IIQ16sQQQII16sQ", data, 24)))
        assert manifest["format"] == 1 and manifest["flags"] in (0, 1)
        manifest["checkpoint"] = struct.unpack_from("<QQ16s", data, 112)
        assert not any(data[144:256]) and not any(data[256 + 16 * manifest["count"]:])
        manifest["epochs"] = [struct.unpack_from("<IIQ", data, 256 + 16 * i) for i in range(manifest["count"])]
        return manifest

    def segment(self, number, data):
        assert data[:8] == b"WHLOGSEG"
        form, cluster, named, salt, size, _ = struct.unpack_from("<I16sQQQQ", data, 12)
        assert (form, cluster, named, size) == (1, self.cluster, number, len(data))
        assert struct.unpack_from("<I", data, 8)[0] == check(data[12:BLOCK], salt) and not any(data[64:BLOCK])
        if not any(data[BLOCK:2 * BLOCK]):
            assert not any(data[BLOCK:]), "a segment that is not opened holds something"
            return
        assert number == self.opened, "an opened segment behind one that is not"
        self.opened += 1
        opening = data[BLOCK:2 * BLOCK]
        assert opening[:8] == b"WHLOGOPN" and struct.unpack_from("<I", opening, 8)[0] == check(opening[12:], salt)
        fields = struct.unpack_from("<IQQQII16sQ", opening, 12)
        assert fields[:7] == (1, number, self.lsn, self.seq + 1, self.epoch, 0, self.chain), fields
        self.bases[number] = self.lsn
        at = 2 * BLOCK
        while at < len(data) and any(data[at:at + 96]):
            at += self.group(data, at, salt)
        assert not any(data[at:])

    def group(self, data, at, salt):
        header = data[at:at + 96]
        magic, found = struct.unpack_from("<4sI", header)
        assert magic == b"WHG1" and found == check(header[8:], salt)
        lsn, length, payload, epoch, flags, seq, durable, _, count = struct.unpack_from("<QIIIIQQQI", header, 8)
        assert lsn == self.lsn and seq == self.seq + 1 and durable <= lsn and length % BLOCK == 0
        body = data[at + 96:at + length]
        assert len(body) == length - 96 and not any(body[payload:]) and not any(header[60:80])
        chain = h128(self.chain + header[8:80] + h128(body))
        assert header[80:96] == chain
        records = self.group_records(body[:payload], lsn, salt, epoch)
        assert len(records) == count and (flags & SEAL == 0 or count == 0)
        if epoch != self.epoch:
            assert epoch > self.epoch and records[0][3] == 1
            number, reason, start = struct.unpack("<IIQ", records[0][6])
            assert (number, start) == (epoch, lsn)
            self.epochs.append((number, reason, start))
            records = records[1:]
        self.transaction(flags, records)
        self.flags.append(flags)
        self.lsn, self.seq, self.chain, self.epoch = lsn + length, seq, chain, epoch
        self.ends[self.lsn] = (seq, epoch, chain)
        return length

    def transaction(self, flags, records):
        if flags & (TX_CONT | TX_END):
            assert self.held is not None
            self.held += records
            if flags & TX_END:
                self.records += self.held
                self.held = None
        elif flags & TX_BEGIN:
            self.held = list(records)
        else:
            self.held = None
            self.records += records

    def group_records(self, body, lsn, salt, epoch):
        records, at = [], 0
        while at < len(body):
            found, length, kind, version, flags, fixed, zero = struct.unpack_from("<IIBBHHH", body, at)
            place = lsn + 96 + at
            assert found == check(body[at + 4:at + length], salt + place) and zero == 0
            begin = at + 16
            records.append((place, None, epoch, kind, version, flags, body[begin:begin + fixed],
                            body[begin + fixed:at + length]))
            at += length
            assert not any(body[at:(at + 7) // 8 * 8])
            at = (at + 7) // 8 * 8
        assert at == len(body)
        return records


def bytes_of(text):
    return b"" if text == "-" else bytes.fromhex(text)


class Format(unittest.TestCase):
    sample = None

    def test_what_the_document_says(self):
        with tempfile.TemporaryDirectory() as name:
            printed = subprocess.run([self.sample, name], stdout=subprocess.PIPE, check=True, timeout=60, text=True)
            log = Decoder(pathlib.Path(name))
        expected = []
        *lines, last = printed.stdout.splitlines()
        for line in lines:
            location, commit, epoch, kind, version, flags, fixed, payload = line.split()
            self.assertGreater(int(commit), int(location))
            expected.append((int(location), None, int(epoch), int(kind), int(version), int(flags), bytes_of(fixed),
                             bytes_of(payload)))
        self.assertGreater(len(expected), 300)
        self.assertEqual(log.records, expected)
        saved = int(last.split()[-1])
        self.assertGreater(saved, 100)
        self.assertEqual(log.saved, [record[3:] for record in expected[:saved]])
        self.assertEqual(log.saved_epochs, log.epochs[:3])
        self.assertGreater(log.opened, 3)
        for flag in (SEAL, TX_BEGIN, TX_CONT, TX_END):
            self.assertTrue(any(flags & flag for flags in log.flags), flag)
        newest = log.newest
        self.assertEqual(newest["flags"], 1)  # CLEAN
        self.assertEqual(newest["durable"], log.lsn)
        self.assertEqual(newest["chain"], log.chain)
        self.assertEqual((newest["first"], newest["last"]), (len(log.saved_segments), log.opened - 1))
        self.assertEqual(newest["epochs"], log.epochs)
        self.assertEqual([epoch for epoch, _, _ in log.epochs], [1, 2, 3, 4, 5])
        self.assertEqual([reason for _, reason, _ in log.epochs], [1, 2, 2, 2, 2])


if __name__ == "__main__":
    Format.sample = sys.argv.pop(1)
    unittest.main(verbosity=2)
