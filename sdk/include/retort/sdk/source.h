// Sources in C++: a class with
//   bool Next(const Call&, Record&)      fills in the next record; false: there are no more
//   std::string Save() const             the position after the records that Next has given
//   void Load(std::string_view state)    goes there; throws Failure(RETORT_DATA_LOSS) for other
//   bytes
// then one line: RETORT_SOURCE("my_source", MySource, "one line for people", kSchema);
// Records come in the same order with the same uids in every run.
// SPDX-License-Identifier: Apache-2.0
#ifndef RETORT_SDK_SOURCE_H_
#define RETORT_SDK_SOURCE_H_

#include <string>

#include "retort/abi/draft/source.h"
#include "retort/sdk/plugin.h"
#include "retort/sdk/stream.h"

namespace retort::sdk {

// One object is used again and again: every Next fills in all of it.
struct Record {
  uint64_t uid = 0;                  // unique in the source, the same in every run
  std::string json = {};             // one object
  std::string origin = {};           // for people: "file:line"
  retort_status status = RETORT_OK;  // else: quarantined, with json as it was read

  void Set(uint64_t new_uid, std::string_view new_json, std::string_view new_origin) {
    uid = new_uid;
    json = new_json;
    origin = new_origin;
    status = RETORT_OK;
  }
  // A record that can't be used; the source goes on after it.
  void SetBad(uint64_t new_uid, retort_status why, std::string_view bytes,
              std::string_view origin_and_reason) {
    Set(new_uid, bytes, origin_and_reason);
    status = why;
  }
};

namespace internal {

template <class T>
class SourceInstance final : public Instance {
 public:
  explicit SourceInstance(const Config& config) : source_(config) {}
  const void* GetInterface(std::string_view id) override {
    return id == RETORT_SOURCE_INTERFACE ? &table_ : nullptr;
  }

 private:
  static SourceInstance& Of(retort_instance* p) {
    return static_cast<SourceInstance&>(Instance::Of(p));
  }
  static retort_status Next(retort_instance* p, const retort_call* raw, uint64_t max_n, void* ctx,
                            void (*on)(void*, const retort_record*), int32_t* end) noexcept {
    return Guard(raw, [&] {
      const Call call(raw);
      Record& record = Of(p).record_;
      for (uint64_t i = 0; i < max_n; ++i) {
        call.ThrowIfCancelled();
        if (!Of(p).source_.Next(call, record)) {
          *end = 1;
          return;
        }
        const retort_record out = {.struct_size = sizeof(out),
                                   .status = record.status,
                                   .uid = record.uid,
                                   .json = ToStr(record.json),
                                   .origin = ToStr(record.origin)};
        on(ctx, &out);
      }
    });
  }
  static retort_status Save(retort_instance* p, const retort_call* raw,
                            const retort_sink* sink) noexcept {
    return Guard(raw, [&] { WriteAll(*sink, Of(p).source_.Save()); });
  }
  static retort_status Load(retort_instance* p, const retort_call* raw,
                            const retort_reader* reader) noexcept {
    return Guard(raw, [&] { Of(p).source_.Load(ReadAll(*reader)); });
  }

  T source_;
  Record record_;
  retort_source_v1 table_ = {sizeof(retort_source_v1), 0, Next, Save, Load};
};

}  // namespace internal
}  // namespace retort::sdk

#define RETORT_SOURCE(ID, CLASS, SUMMARY, SCHEMA)                                             \
  RETORT_SDK_REGISTER(RETORT_KIND_SOURCE, ID, ::retort::sdk::internal::SourceInstance<CLASS>, \
                      SUMMARY, SCHEMA)

#endif  // RETORT_SDK_SOURCE_H_
