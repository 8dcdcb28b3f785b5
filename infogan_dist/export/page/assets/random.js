"use strict";
// Random numbers as functions of (seed, name, row), the same bits as infogan_dist/randomness.py draws:
// a key from BLAKE2b (RFC 7693) and a counter through Philox 4x32-10 (Salmon et al. 2011).

const BLAKE2B_IV = [
  0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
  0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
];
const BLAKE2B_SIGMA = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4], [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13], [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11], [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5], [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
];
const BLAKE2B_MIXED = [ // the columns, then the diagonals, of the 4 x 4 state
  [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15], [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
];
const DIGEST_BYTES = 8;

const low64 = (x) => BigInt.asUintN(64, x);
const rotatedRight64 = (x, n) => low64((x >> n) | (x << (64n - n)));

/** The first 8 bytes of BLAKE2b with a digest of 8 bytes, as one little-endian integer. `text` has at most 128 bytes. */
function blake2b(text) {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length > 128) throw new RangeError("the name of a stream has more than 128 bytes");
  const block = new DataView(new ArrayBuffer(128));
  bytes.forEach((byte, i) => block.setUint8(i, byte));
  const message = Array.from({ length: 16 }, (_, i) => block.getBigUint64(8 * i, true));
  const first = BLAKE2B_IV[0] ^ 0x01010000n ^ BigInt(DIGEST_BYTES);
  const v = [first, ...BLAKE2B_IV.slice(1), ...BLAKE2B_IV];
  v[12] ^= BigInt(bytes.length);
  v[14] ^= 0xffffffffffffffffn; // the only block is the last
  for (let round = 0; round < 12; round++) {
    const order = BLAKE2B_SIGMA[round % 10];
    BLAKE2B_MIXED.forEach(([a, b, c, d], i) => {
      v[a] = low64(v[a] + v[b] + message[order[2 * i]]);
      v[d] = rotatedRight64(v[d] ^ v[a], 32n);
      v[c] = low64(v[c] + v[d]);
      v[b] = rotatedRight64(v[b] ^ v[c], 24n);
      v[a] = low64(v[a] + v[b] + message[order[2 * i + 1]]);
      v[d] = rotatedRight64(v[d] ^ v[a], 16n);
      v[c] = low64(v[c] + v[d]);
      v[b] = rotatedRight64(v[b] ^ v[c], 63n);
    });
  }
  return first ^ v[0] ^ v[8];
}

/** Four 32-bit words of a counter of four words and a key of two, all BigInt. */
function philox([c0, c1, c2, c3], [k0, k1]) {
  const MASK = 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const product0 = c0 * 0xd2511f53n, product1 = c2 * 0xcd9e8d57n;
    [c0, c1, c2, c3] = [(product1 >> 32n) ^ c1 ^ k0, product1 & MASK, (product0 >> 32n) ^ c3 ^ k1, product0 & MASK];
    k0 = (k0 + 0x9e3779b9n) & MASK;
    k1 = (k1 + 0xbb67ae85n) & MASK;
  }
  return [c0, c1, c2, c3];
}

/** One named, endless table of random numbers: row = global index, column = dimension. */
class Stream {
  constructor(seed, name) {
    const digest = blake2b(`${seed}/${name}`);
    this.seed = seed;
    this.name = name;
    this.key = [digest & 0xffffffffn, digest >> 32n];
  }

  derived(name) {
    return new Stream(this.seed, `${this.name}/${name}`);
  }

  /** Independent 32-bit integers, an array of `columns` numbers. */
  bits(row, columns) {
    const at = BigInt(row), words = [];
    for (let block = 0; words.length < columns; block++) {
      words.push(...philox([BigInt(block), 0n, at & 0xffffffffn, at >> 32n], this.key).map(Number));
    }
    return words.slice(0, columns);
  }

  /** U[0, 1) on a grid of 2^-24. */
  uniform(row, columns) {
    return this.bits(row, columns).map((word) => (word >>> 8) * 2 ** -24);
  }

  /** N(0, 1) by Box-Muller; other machines agree to rounding. */
  normal(row, columns) {
    const pairs = Math.ceil(columns / 2);
    const fractions = this.bits(row, 2 * pairs).map((word) => (word + 1) * 2 ** -32);
    const radius = fractions.slice(0, pairs).map((x) => Math.sqrt(-2 * Math.log(x)));
    const angle = fractions.slice(pairs).map((x) => 2 * Math.PI * x);
    const cosines = radius.map((r, i) => r * Math.cos(angle[i])), sines = radius.map((r, i) => r * Math.sin(angle[i]));
    return [...cosines, ...sines].slice(0, columns);
  }

  /** Uniform integers in [0, below), below at most 2^21. */
  integers(row, columns, below) {
    return this.bits(row, columns).map((word) => Math.floor((word * below) / 2 ** 32));
  }
}
