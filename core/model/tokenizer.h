// The tokenizer of a model.
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "core/base/status.h"
#include "core/model/source.h"
#include "core/text/tokenizer.h"

namespace retort::model {

// A Source that holds its vocabulary in another form than tokenizer.json is one of these too.
class TokenizerMaker {
 public:
  virtual ~TokenizerMaker() = default;
  // What its tokenizer.json would give; NULL: it has none.
  virtual Result<std::unique_ptr<text::Tokenizer>> MakeTokenizer() const = 0;
};

// NULL where the model has none.
Result<std::unique_ptr<text::Tokenizer>> OpenTokenizer(const Source& source);

}  // namespace retort::model
