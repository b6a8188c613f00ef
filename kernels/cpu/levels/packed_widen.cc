// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/levels/packed_widen.h"

namespace retort::kernels::RETORT_KERNELS_NS {

// ---- block types: lanes are rows already -------------------------------------------------------

// Columns 4 q .. 4 q + 3 of one quad: its 64 bytes as four vectors, value(ints) each.
template <class Value>
static inline void PutQuad(Ints quad, float* out, int64_t stride, Value value) {
  const Ints byte = Ints::Set1(0xff);
  value(quad & byte).Store(out);
  value(ShiftRight<8>(quad) & byte).Store(out + stride);
  value(ShiftRight<16>(quad) & byte).Store(out + 2 * stride);
  value(ShiftRight<24>(quad)).Store(out + 3 * stride);
}

// 32 columns of 4-bit codes.
template <class Value>
static inline void PutNibbles(const uint8_t* codes, float* out, int64_t stride, Value value) {
  const Ints low = Ints::Set1(0x0f0f0f0f);
  for (int q = 0; q < 4; ++q) {
    const Ints both = Ints::Load(codes + 64 * q);
    PutQuad(both & low, out + 4 * q * stride, stride, value);
    PutQuad(ShiftRight<4>(both) & low, out + (16 + 4 * q) * stride, stride, value);
  }
}

static void WidenQ8_0(const uint8_t* codes, const uint8_t* scales, float* out, int64_t stride) {
  const F16 d = LoadHalves(scales);
  const Ints offset = Ints::Set1(-128);
  for (int q = 0; q < 8; ++q) {
    PutQuad(Ints::Load(codes + 64 * q), out + 4 * q * stride, stride,
            [&](Ints code) { return d * ToFloat(code + offset); });
  }
}

static void WidenQ4_0(const uint8_t* codes, const uint8_t* scales, float* out, int64_t stride) {
  const F16 d = LoadHalves(scales);
  const Ints offset = Ints::Set1(-8);
  PutNibbles(codes, out, stride, [&](Ints code) { return d * ToFloat(code + offset); });
}

static void WidenQ4_1(const uint8_t* codes, const uint8_t* scales, float* out, int64_t stride) {
  const F16 d = LoadHalves(scales), m = LoadHalves(scales + 32);
  PutNibbles(codes, out, stride, [&](Ints code) { return d * ToFloat(code) + m; });
}

static void WidenQ4_K(const uint8_t* codes, const uint8_t* scales, float* out, int64_t stride) {
  const F16 d = LoadHalves(scales), d_min = LoadHalves(scales + 32);
  for (int j = 0; j < 8; ++j) {
    const F16 scale = d * ToFloat(Ints::OfBytes(scales + 64 + 32 * j));
    const F16 minimum = d_min * ToFloat(Ints::OfBytes(scales + 80 + 32 * j));
    PutNibbles(codes + 256 * j, out + 32 * j * stride, stride,
               [&](Ints code) { return scale * ToFloat(code) - minimum; });
  }
}

template <int kQuad>
static inline void PutSixes(const uint8_t* codes, F16 scale, float* out, int64_t stride) {
  const Ints low = ShiftRight<kQuad / 4 * 4>(Ints::Load(codes + 64 * (kQuad % 4)));
  const Ints high = ShiftRight<kQuad % 4 * 2>(Ints::Load(codes + 256 + 64 * (kQuad / 4)));
  const Ints low4 = low & Ints::Set1(0x0f0f0f0f), high2 = high & Ints::Set1(0x03030303);
  const Ints code = low4 + high2 * Ints::Set1(16), offset = Ints::Set1(-32);
  PutQuad(code, out + 4 * kQuad * stride, stride,
          [&](Ints c) { return scale * ToFloat(c + offset); });
}

static void WidenQ6_K(const uint8_t* codes, const uint8_t* scales, float* out, int64_t stride) {
  const F16 d = LoadHalves(scales);
  for (int j = 0; j < 8; ++j, codes += 384, out += 32 * stride) {
    const F16 first = d * ToFloat(Ints::OfSignedBytes(scales + 32 + 32 * j));
    const F16 second = d * ToFloat(Ints::OfSignedBytes(scales + 48 + 32 * j));
    PutSixes<0>(codes, first, out, stride);
    PutSixes<1>(codes, first, out, stride);
    PutSixes<2>(codes, first, out, stride);
    PutSixes<3>(codes, first, out, stride);
    PutSixes<4>(codes, second, out, stride);
    PutSixes<5>(codes, second, out, stride);
    PutSixes<6>(codes, second, out, stride);
    PutSixes<7>(codes, second, out, stride);
  }
}

// The absmax of one block of 16 rows from `row`.
static F16 Nf4Absmax(const PackedView& w, int64_t row, int64_t block, const uint8_t* codes) {
  const int64_t blocks = w.cols / 64;
  float lanes[kGroup] = {};
  for (int64_t r = 0; r < kGroup && row + r < w.rows; ++r) {
    const float scale = w.nf4_scales[((row + r) * blocks + block) / 256];
    lanes[r] = w.nf4_dynamic[codes[r]] * scale + w.nf4_mean;
  }
  return F16::Load(lanes);
}

static void WidenNf4(const PackedView& w, int64_t row, int64_t begin, int64_t end, float* out,
                     int64_t stride) {
  const F16 code = F16::Load(w.nf4_code);
  const uint8_t* codes = w.codes + row / kGroup * w.codes_stride + begin / 2 * kGroup;
  const uint8_t* absmax = w.scales + row / kGroup * w.scales_stride + begin / 64 * kGroup;
  for (int64_t c = begin; c < end; c += 64, absmax += kGroup) {
    const F16 scale = Nf4Absmax(w, row, c / 64, absmax);
    for (int i = 0; i < 32; ++i, codes += kGroup, out += 2 * stride) {
      const Ints both = Ints::OfBytes(codes);
      (Lookup(code, both & Ints::Set1(15)) * scale).Store(out);
      (Lookup(code, ShiftRight<4>(both)) * scale).Store(out + stride);
    }
  }
}

using Widen = void (*)(const uint8_t* codes, const uint8_t* scales, float* out, int64_t stride);

// kWeights columns at a time: kCodes and kScales bytes of a group.
template <Widen kWiden, int kWeights, int kCodes, int kScales>
static void WidenBlocks(const PackedView& w, int64_t row, int64_t begin, int64_t end, float* out,
                        int64_t stride) {
  const uint8_t* codes = w.codes + row / kGroup * w.codes_stride + begin / kWeights * kCodes;
  const uint8_t* scales = w.scales + row / kGroup * w.scales_stride + begin / kWeights * kScales;
  for (int64_t c = begin; c < end; c += kWeights) {
    kWiden(codes, scales, out, stride);
    codes += kCodes;
    scales += kScales;
    out += kWeights * stride;
  }
}

// ---- float types: rows to transpose ------------------------------------------------------------

template <int kBytes, class Load>
static void WidenRow(const uint8_t* from, int64_t n, float* out, Load load) {
  int64_t c = 0;
  for (; c + 16 <= n; c += 16) load(from + c * kBytes).Store(out + c);
  if (c < n) {
    uint8_t rest[16 * kBytes] = {};
    memcpy(rest, from + c * kBytes, static_cast<size_t>((n - c) * kBytes));
    load(rest).StorePart(out + c, n - c);
  }
}

void WidenFloats(const PackedView& w, int64_t row, int64_t begin, int64_t end, float* out) {
  if (w.type == RETORT_PACKED_F32) {
    memcpy(out, w.codes + (row * w.cols + begin) * 4,
           static_cast<size_t>(end - begin) * sizeof(float));
  } else if (w.type == RETORT_PACKED_F16) {
    WidenRow<2>(w.codes + (row * w.cols + begin) * 2, end - begin, out, LoadHalves);
  } else {
    WidenRow<2>(w.codes + (row * w.cols + begin) * 2, end - begin, out, LoadBf16);
  }
}

static void WidenFloatLanes(const PackedView& w, int64_t row, int64_t begin, int64_t end,
                            float* out, int64_t stride) {
  const int64_t rows = w.rows - row < kGroup ? w.rows - row : kGroup;
  float tile[kGroup * kGroup] = {};
  for (int64_t c = begin; c < end; c += kGroup) {
    const int64_t n = end - c < kGroup ? end - c : kGroup;
    float* const to = out + (c - begin) * stride;
    if (w.type == RETORT_PACKED_F32 && rows == kGroup && n == kGroup) {
      Transpose16(reinterpret_cast<const float*>(w.codes) + row * w.cols + c, w.cols, to, stride);
      continue;
    }
    for (int64_t r = 0; r < rows; ++r) WidenFloats(w, row + r, c, c + n, tile + r * kGroup);
    if (n == kGroup) {
      Transpose16(tile, kGroup, to, stride);
      continue;
    }
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t r = 0; r < kGroup; ++r) to[i * stride + r] = tile[r * kGroup + i];
    }
  }
}

void WidenLanes(const PackedView& w, int64_t row, int64_t begin, int64_t end, float* out,
                int64_t stride) {
  switch (w.type) {
    case RETORT_PACKED_Q8_0:
      return WidenBlocks<WidenQ8_0, 32, 512, 32>(w, row, begin, end, out, stride);
    case RETORT_PACKED_Q4_0:
      return WidenBlocks<WidenQ4_0, 32, 256, 32>(w, row, begin, end, out, stride);
    case RETORT_PACKED_Q4_1:
      return WidenBlocks<WidenQ4_1, 32, 256, 64>(w, row, begin, end, out, stride);
    case RETORT_PACKED_Q4_K:
      return WidenBlocks<WidenQ4_K, 256, 2048, 320>(w, row, begin, end, out, stride);
    case RETORT_PACKED_Q6_K:
      return WidenBlocks<WidenQ6_K, 256, 3072, 288>(w, row, begin, end, out, stride);
    case RETORT_PACKED_NF4: return WidenNf4(w, row, begin, end, out, stride);
    default: return WidenFloatLanes(w, row, begin, end, out, stride);
  }
}

#if RETORT_KERNELS_LEVEL > 0
static inline void Transpose8(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  __m256 r[8], t[8];
  for (int i = 0; i < 8; ++i) r[i] = _mm256_loadu_ps(in + i * in_stride);
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(out + i * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out + (i + 4) * out_stride, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}
void Transpose16(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  for (int i = 0; i < 16; i += 8) {
    for (int j = 0; j < 16; j += 8) {
      Transpose8(in + i * in_stride + j, in_stride, out + j * out_stride + i, out_stride);
    }
  }
}
#else
void Transpose16(const float* in, int64_t in_stride, float* out, int64_t out_stride) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) out[j * out_stride + i] = in[i * in_stride + j];
  }
}
#endif

}  // namespace retort::kernels::RETORT_KERNELS_NS
