// model show, convert, quantize, diff, merge.
// SPDX-License-Identifier: Apache-2.0
#include "host/cli/command.h"

namespace retort::cli {
namespace {

const Option kType = {"type", Kind::kText, "TYPE",
                      "f32, f16, bf16; of a GGUF also q8_0, q6_k, q4_k, q4_1, q4_0"};
const Option kHeadType = {"head-type", Kind::kText, "TYPE",
                          "of the head alone; with a 4-bit type it is q6_k (else q8_0) by default"};
const Option kForce = {"force", Kind::kFlag, "", "overwrite DST"};
const Option kJson = {"json", Kind::kFlag, "", "print the report as one JSON object"};

Command Show() {
  return {"model show",
          "model.show",
          "a model's layer graph, parameters, tokenizer and chat format",
          "MODEL",
          "model",
          {{"json", Kind::kFlag, "", "print a summary as one JSON object instead of the graph"}},
          "MODEL is a folder in Hugging Face's layout or a GGUF file. Reads no weights. Says in\n"
          "which types its tensors are stored, too.\n"
          "\n"
          "Example:\n"
          "  retort model show models/SmolLM2-135M-Instruct.gguf\n"};
}

Command Convert() {
  return {
      "model convert",
      "model.convert",
      "write a model as a GGUF file or as a Hugging Face folder",
      "SRC DST",
      "source target",
      {kType, kHeadType, kForce, kJson},
      "SRC is a folder in Hugging Face's layout or a GGUF file. DST is a GGUF file if its name\n"
      "ends in .gguf, else a folder. Without --type the weights keep their type (those of a\n"
      "quantized GGUF become f32 in a folder). Norms and biases are f32 in a GGUF. What\n"
      "llama.cpp will do otherwise than the model says is warned of.\n"
      "\n"
      "Example:\n"
      "  retort model convert runs/sft/model model.gguf --type f16\n"};
}

Command Quantize() {
  return {
      "model quantize",
      "model.quantize",
      "write a model as a GGUF file of a smaller type, and say what that costs",
      "SRC DST",
      "source target",
      {{"type", Kind::kText, "TYPE", "q8_0, q6_k, q4_k, q4_1, q4_0; f32, f16, bf16", true},
       kHeadType,
       kForce,
       kJson},
      "SRC is a folder in Hugging Face's layout or a GGUF file, also one of an architecture\n"
      "that retort doesn't run. Prints, for each class of tensors, the root mean square of the\n"
      "rounding errors. Rows that are not whole blocks of TYPE become q8_0 or f16.\n"
      "\n"
      "Example:\n"
      "  retort model quantize model-f16.gguf model-q4_0.gguf --type q4_0\n"};
}

Command Diff() {
  return {"model diff",
          "model.diff",
          "compare the weights of two models",
          "A B",
          "a b",
          {{"tolerance", Kind::kNumber, "X", "weights that differ by at most X are equal (0)"},
           {"json", Kind::kFlag, "", "print all tensors as one JSON object"}},
          "A and B are folders in Hugging Face's layout or GGUF files, in any types. Prints the\n"
          "tensors that only one has, and the ten that differ most. The exit code is 1 if names,\n"
          "shapes or weights differ; types alone may.\n"
          "\n"
          "Example:\n"
          "  retort model diff model-f16.gguf model-q8_0.gguf --tolerance 0.01\n"};
}

Command Merge() {
  return {"model merge",
          "model.merge",
          "add an adapter to the weights of its base model",
          "BASE ADAPTER DST",
          "base adapter target",
          {kType, kHeadType, kForce, kJson},
          "ADAPTER is a folder as PEFT writes it (LoRA). DST is a GGUF file if its name ends in\n"
          ".gguf, else a folder. Weights are summed in f64 and written in --type, or in the\n"
          "base's own type (f32 if that is quantized); what rounding costs is printed.\n"
          "\n"
          "Example:\n"
          "  retort model merge models/base runs/lora/adapter models/merged --type bf16\n"};
}

}  // namespace

std::vector<Command> ModelCommands() { return {Show(), Convert(), Quantize(), Diff(), Merge()}; }

}  // namespace retort::cli
