// Attention over a blocked cache, a few virtual rows of one kv head at a time; and appending.
// Method: up to kKvRows virtual rows (query row x head of the group) of one sequence, or of several
// that begin with the same block, walk over the blocks together. Keys lie in the cache with a lane
// per position, so scores are outer products without horizontal sums; bf16 and int8 are widened
// into a tile once for all rows that see the block. Then an online softmax per row, and p V.
// A row's arithmetic is fixed by its position alone: scores are chains over head_dim, sums over a
// block one tree over 64 lanes, outputs chains over positions; hidden keys weigh 0 and add nothing.
// So its bits depend neither on its company nor on how its sequence was cut.
// Scratch lies on the stack (200 kB at most).
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/half.h"
#include "kernels/cpu/levels/outer_tile.h"
#include "kernels/cpu/levels/packed_simd.h"

namespace retort::kernels::RETORT_KERNELS_NS {

static constexpr int64_t kR = kKvRows, kK = RETORT_KERNELS_KV_BLOCK;
static constexpr int64_t kMostWide = RETORT_KERNELS_KV_MAX_HEAD_DIM;

static inline int64_t WidthOf(int64_t head_dim) { return (head_dim + 15) / 16 * 16; }
static inline int64_t ElementBytes(int kv_type) {
  return kv_type == RETORT_KERNELS_KV_F32 ? 4 : kv_type == RETORT_KERNELS_KV_BF16 ? 2 : 1;
}
static inline int64_t HeadBytes(const retort_kv_cache& cache) {
  const int64_t scales = cache.kv_type == RETORT_KERNELS_KV_INT8 ? 4 * kK : 0;
  return WidthOf(cache.head_dim) * kK * ElementBytes(cache.kv_type) + scales;
}

// ---- products --------------------------------------------------------------------------------

// Rows per tile, and vectors per tile of so many rows, by registers.
#if RETORT_KERNELS_LEVEL == 2
static constexpr int kTileRows = 4;
static constexpr int TileCols(int) { return 4; }
#elif RETORT_KERNELS_LEVEL == 1
static constexpr int kTileRows = 6;
static constexpr int TileCols(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
#else
static constexpr int kTileRows = 2;
static constexpr int TileCols(int rows) { return rows == 1 ? 2 : 1; }
#endif

struct Product {  // c += a b, or c = a b
  const float* a;
  const float* b;
  float* c;
  int64_t b_stride, c_stride, depth, vectors;
};

template <int kRows, int kCols, int64_t kARow, int64_t kAK, bool kAdd>
static inline void TileColumns(const Product& x, int64_t* v) {
  for (; *v + kCols <= x.vectors; *v += kCols) {
    OuterTile<F16, kRows, kCols, kARow, kAK, kAdd>(x.a, x.b + *v * 16, x.b_stride, x.depth,
                                                   x.c + *v * 16, x.c_stride);
  }
  if constexpr (kCols > 1) TileColumns<kRows, kCols / 2, kARow, kAK, kAdd>(x, v);
}

template <int kRows, int64_t kARow, int64_t kAK, bool kAdd>
static void TileRows(Product* x, int64_t* rows) {
  for (; *rows >= kRows; *rows -= kRows) {
    int64_t v = 0;
    TileColumns<kRows, TileCols(kRows), kARow, kAK, kAdd>(*x, &v);
    x->a += kRows * kARow;
    x->c += kRows * x->c_stride;
  }
  if constexpr (kRows > 1) TileRows<kRows - 1, kARow, kAK, kAdd>(x, rows);
}

// ---- state -----------------------------------------------------------------------------------

// The rows of one sequence in the task.
struct Member {
  const int32_t* table;
  int64_t begin, end;           // virtual rows in the state
  int64_t first_key, last_key;  // that some row of it sees, both included
  bool Sees(int64_t block) const { return first_key / kK <= block && block <= last_key / kK; }
};

struct KvState {
  alignas(64) float q[kMostWide * kR];  // [head_dim][kR], times the scale
  alignas(64) float out[kR * kMostWide];
  alignas(64) float p[kR * kK];  // scores, then weights
  alignas(64) float tile[kMostWide * kK];
  float max[kR], sum[kR];
  int64_t position[kR];
  float* target[kR];
  Member members[kR];
  int64_t n_members, rows;
};

static void LoadRows(const KvArgs& a, const KvTask& task, KvState* s) {
  const int64_t group = a.shape.n_heads / a.cache.n_kv_heads, dim = a.cache.head_dim;
  const float scale = static_cast<float>(a.shape.scale);
  s->rows = s->n_members = 0;
  int64_t first_row = task.row;
  for (int64_t i = 0; i < task.n_sequences; ++i) {
    const retort_kv_sequence& seq = a.sequences[task.first + i];
    const bool whole = task.n_sequences > 1;
    const int64_t begin = whole ? 0 : task.begin, end = whole ? seq.n_rows * group : task.end;
    Member* const member = s->members + s->n_members;
    member->table = seq.table;
    member->begin = s->rows;
    for (int64_t virtual_row = begin; virtual_row < end; ++virtual_row, ++s->rows) {
      const int64_t row = virtual_row / group, r = s->rows;
      const int64_t column = (task.kv_head * group + virtual_row % group) * dim;
      const float* q = a.q + (first_row + row) * a.q_stride + column;
      for (int64_t d = 0; d < dim; ++d) s->q[d * kR + r] = q[d] * scale;
      s->target[r] = a.out + (first_row + row) * a.out_stride + column;
      s->position[r] = seq.n_past + row;
      s->max[r] = -INFINITY;
      s->sum[r] = 0;
    }
    first_row += seq.n_rows;
    member->end = s->rows;
    if (member->begin == member->end) continue;
    const int64_t first = s->position[member->begin];
    member->last_key = s->position[member->end - 1];
    member->first_key =
        a.shape.window > 0 && first >= a.shape.window ? first - a.shape.window + 1 : 0;
    ++s->n_members;
  }
  memset(s->out, 0, static_cast<size_t>(s->rows * WidthOf(dim)) * sizeof(float));
}

// `rows` rows of `width` stored elements as f32. int8: a scale per lane, or (kRowScale) per row.
template <bool kRowScale>
static const float* Widen(int kv_type, const unsigned char* from, int64_t rows, int64_t width,
                          const float* scales, float* tile) {
  if (kv_type == RETORT_KERNELS_KV_F32) return reinterpret_cast<const float*>(from);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < width; c += 16) {
      const int64_t i = r * width + c;
      if (kv_type == RETORT_KERNELS_KV_BF16) {
        LoadBf16(from + 2 * i).Store(tile + i);
      } else {
        const F16 scale = kRowScale ? F16::Set1(scales[r]) : F16::Load(scales + c);
        (ToFloat(Ints::OfSignedBytes(from + i)) * scale).Store(tile + i);
      }
    }
  }
  return tile;
}

static const float* ScalesOf(const retort_kv_cache& cache, const unsigned char* head) {
  return reinterpret_cast<const float*>(head + HeadBytes(cache) - 4 * kK);
}

// Turns a row's scores of the first `keys` of one block (whole vectors that some row sees) into
// weights and rescales what the row has gathered.
static void SoftmaxRow(const retort_kv_attention_shape& shape, int64_t first_key, int64_t keys,
                       int64_t width, int64_t r, KvState* s) {
  const int64_t position = s->position[r];
  int64_t begin = shape.window > 0 ? position - shape.window + 1 - first_key : 0;
  int64_t end = position + 1 - first_key;
  begin = begin > 0 ? begin : 0;
  end = end < keys ? end : keys;
  float* const p = s->p + r * kK;
  if (begin >= end) {
    memset(p, 0, kK * sizeof(float));
    return;
  }
  const F16 cap = F16::Set1(static_cast<float>(shape.soft_cap));
  if (shape.soft_cap > 0) {
    for (int64_t j = 0; j < keys; j += 16) (cap * Tanh(F16::Load(p + j) / cap)).Store(p + j);
  }
  for (int64_t j = 0; j < begin; ++j) p[j] = -INFINITY;
  for (int64_t j = end; j < keys; ++j) p[j] = -INFINITY;
  F16 top = F16::Set1(-INFINITY);
  for (int64_t j = 0; j < keys; j += 16) top = Max(F16::Load(p + j), top);
  const float before = s->max[r], block_max = MaxAll(top);
  const float now = block_max > before ? block_max : before;
  F16 sum = F16::Zero();
  for (int64_t j = 0; j < keys; j += 16) {
    const F16 e = Exp(F16::Load(p + j) - F16::Set1(now));
    e.Store(p + j);
    sum = sum + e;
  }
  if (now != before) {
    const F16 keep = Exp(F16::Set1(before) - F16::Set1(now));
    float lanes[16];
    keep.Store(lanes);
    float* const out = s->out + r * width;
    for (int64_t d = 0; d < width; d += 16) (F16::Load(out + d) * keep).Store(out + d);
    s->sum[r] *= lanes[0];
    s->max[r] = now;
  }
  s->sum[r] += Sum(sum);
}

// Rows [begin, end) of the state meet block `id`, whose positions start at first_key.
static void MeetBlock(const KvArgs& a, int64_t kv_head, int64_t id, int64_t first_key,
                      int64_t last_key, int64_t begin, int64_t end, KvState* s) {
  const retort_kv_cache& cache = a.cache;
  const int64_t width = WidthOf(cache.head_dim);
  const int64_t offset = id * cache.block_stride + kv_head * HeadBytes(cache);
  const unsigned char *keys = cache.keys + offset, *values = cache.values + offset;
  const int64_t seen = last_key + 1 - first_key < kK ? last_key + 1 - first_key : kK;
  const int64_t vectors = (seen + 15) / 16;
  int64_t rows = end - begin;
  Product scores = {
      .a = s->q + begin,
      .b = Widen<false>(cache.kv_type, keys, cache.head_dim, kK, ScalesOf(cache, keys), s->tile),
      .c = s->p + begin * kK,
      .b_stride = kK,
      .c_stride = kK,
      .depth = cache.head_dim,
      .vectors = vectors};
  TileRows<kTileRows, 1, kR, false>(&scores, &rows);
  for (int64_t r = begin; r < end; ++r) {
    SoftmaxRow(a.shape, first_key, 16 * vectors, width, r, s);
  }
  rows = end - begin;
  Product gather = {
      .a = s->p + begin * kK,
      .b = Widen<true>(cache.kv_type, values, seen, width, ScalesOf(cache, values), s->tile),
      .c = s->out + begin * width,
      .b_stride = width,
      .c_stride = width,
      .depth = seen,
      .vectors = width / 16};
  TileRows<kTileRows, kK, 1, true>(&gather, &rows);
}

void KvAttention(const KvArgs& a, const KvTask& task) {
  KvState s;
  LoadRows(a, task, &s);
  if (s.rows == 0) return;
  int64_t block = s.members[0].first_key / kK, last = 0;
  for (int64_t m = 0; m < s.n_members; ++m) {
    const Member& member = s.members[m];
    if (member.first_key / kK < block) block = member.first_key / kK;
    if (member.last_key / kK > last) last = member.last_key / kK;
  }
  for (; block <= last; ++block) {
    for (int64_t m = 0; m < s.n_members;) {
      const Member& member = s.members[m++];
      if (!member.Sees(block)) continue;
      const int32_t id = member.table[block];
      int64_t end = member.end, last_key = member.last_key;
      for (; m < s.n_members && s.members[m].Sees(block) && s.members[m].table[block] == id; ++m) {
        end = s.members[m].end;
        if (s.members[m].last_key > last_key) last_key = s.members[m].last_key;
      }
      MeetBlock(a, task.kv_head, id, block * kK, last_key, member.begin, end, &s);
    }
  }
  const int64_t width = WidthOf(a.cache.head_dim);
  for (int64_t r = 0; r < s.rows; ++r) {
    const F16 scale = F16::Set1(1.0f / s.sum[r]);
    ForLanes(a.cache.head_dim, [&](int64_t d, auto n) {
      StoreAt(s.target[r] + d, F16::Load(s.out + r * width + d) * scale, n);
    });
  }
}

// ---- appending -------------------------------------------------------------------------------

// Element i of the row goes to head + (first + i * step) elements; an int8 row's scale to `scale`.
static void StoreRow(int kv_type, const float* row, int64_t dim, int64_t first, int64_t step,
                     unsigned char* head, float* scale) {
  if (kv_type == RETORT_KERNELS_KV_F32) {
    float* const to = reinterpret_cast<float*>(head) + first;
    for (int64_t d = 0; d < dim; ++d) to[d * step] = row[d];
    return;
  }
  if (kv_type == RETORT_KERNELS_KV_BF16) {
    uint16_t* const to = reinterpret_cast<uint16_t*>(head) + first;
    for (int64_t d = 0; d < dim; ++d) to[d * step] = FloatToBf16(row[d]);
    return;
  }
  F16 top = F16::Zero();
  ForLanes(dim, [&](int64_t d, auto n) {
    const F16 x = LoadAt<F16>(row + d, n);
    top = Max(Max(x, F16::Zero() - x), top);
  });
  const float most = MaxAll(top), inverse = most > 0 ? 127.0f / most : 0.0f;
  *scale = most / 127.0f;
  int8_t* const to = reinterpret_cast<int8_t*>(head) + first;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  for (int64_t d = 0; d < dim; ++d) {
    const float q = (row[d] * inverse + kRound) - kRound;
    to[d * step] = static_cast<int8_t>(q >= -127.0f && q <= 127.0f ? q : 0.0f);
  }
}

static void StorePosition(const KvArgs& a, int64_t row, int64_t block, int64_t slot) {
  const retort_kv_cache& cache = a.cache;
  const int64_t bytes = HeadBytes(cache), dim = cache.head_dim;
  for (int64_t g = 0; g < cache.n_kv_heads; ++g) {
    const int64_t offset = block * cache.block_stride + g * bytes;
    unsigned char *const keys = cache.keys + offset, *const values = cache.values + offset;
    const auto scale = [&](unsigned char* head) {
      return const_cast<float*>(ScalesOf(cache, head)) + slot;
    };
    StoreRow(cache.kv_type, a.k + row * a.k_stride + g * dim, dim, slot, kK, keys, scale(keys));
    StoreRow(cache.kv_type, a.v + row * a.v_stride + g * dim, dim, slot * WidthOf(dim), 1, values,
             scale(values));
  }
}

void KvAppend(const KvArgs& a, int64_t begin, int64_t end) {
  int64_t row = 0;
  for (int64_t s = 0; s < a.n_sequences && row < end; ++s) {
    const retort_kv_sequence& seq = a.sequences[s];
    for (int64_t i = begin > row ? begin - row : 0; i < seq.n_rows && row + i < end; ++i) {
      const int64_t position = seq.n_past + i;
      StorePosition(a, row + i, seq.table[position / kK], position % kK);
    }
    row += seq.n_rows;
  }
}

}  // namespace retort::kernels::RETORT_KERNELS_NS
