// Every rule of losses, optimizers, ops and families finds the bug that it is there for, and no
// other rule does.
// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/check_numeric/numeric_harness.h"

namespace retort::host::check {
namespace {

Subject Probe(const char* kind, const char* id) {
  Subject subject = SubjectOf(RETORT_PROBES_FILE, kind, id, "{}");
#ifdef RETORT_ENGINE_FILE
  subject.engine_path = RETORT_ENGINE_FILE;
#endif
  return subject;
}

TEST(NumericProbes, TokenLoss) {
  const Subject probe = Probe("loss", "token_probe");
  ExpectPasses(TokenLossRules(), probe);
  ExpectEachBugFailsItsRule(TokenLossRules(), probe);
}

TEST(NumericProbes, SequenceLoss) {
  const Subject probe = Probe("loss", "sequence_probe");
  ExpectPasses(SequenceLossRules(), probe);
  ExpectEachBugFailsItsRule(SequenceLossRules(), probe);
}

TEST(NumericProbes, Optimizer) {
  const Subject probe = Probe("optimizer", "optimizer_probe");
  ExpectPasses(OptimizerRules(), probe, {"optimizer.tensors"});
  ExpectEachBugFailsItsRule(OptimizerRules(), probe);
}

TEST(NumericProbes, Op) {
  const Subject probe = Probe("op", "op_probe");
  ExpectPasses(OpRules(), probe, {"op.rowwise"});
  ExpectEachBugFailsItsRule(OpRules(), probe);
}

#ifdef RETORT_ENGINE_FILE
TEST(NumericProbes, Family) {
  const Subject probe = Probe("family", "family_probe");
  ExpectPasses(FamilyRules(), probe);
  ExpectEachBugFailsItsRule(FamilyRules(), probe);
}
#endif

// The verdict must not hang on the numbers that were drawn.
TEST(NumericProbes, PassWithOtherSeeds) {
  for (uint64_t seed = 100; seed < 108; ++seed) {
    SCOPED_TRACE(seed);
    Subject loss = Probe("loss", "token_probe"), sequence = Probe("loss", "sequence_probe");
    Subject optimizer = Probe("optimizer", "optimizer_probe"), op = Probe("op", "op_probe");
    loss.seed = sequence.seed = optimizer.seed = op.seed = seed;
    ExpectPasses(TokenLossRules(), loss);
    ExpectPasses(SequenceLossRules(), sequence);
    ExpectPasses(OptimizerRules(), optimizer, {"optimizer.tensors"});
    ExpectPasses(OpRules(), op, {"op.rowwise"});
  }
}

TEST(NumericProbes, OpInputsByHand) {
  Subject op = Probe("op", "op_probe");
  op.inputs = "Tx6,6";
  ExpectPasses(OpRules(), op, {"op.rowwise"});
  op.inputs = "Tx6,7";
  EXPECT_EQ(RunAll(OpRules(), op).at("op.infer").verdict, Verdict::kFail);
  for (const char* bad : {"", "T", "6x", "Tx6;", "Tx6;9", "TxT", "6;1;2", "Tx6,,6"}) {
    op.inputs = bad;
    const Finding finding = RunAll(OpRules(), op).at("op.infer");
    if (*bad == '\0') continue;  // the kit tries some
    EXPECT_EQ(finding.verdict, Verdict::kFail) << bad;
  }
}

}  // namespace
}  // namespace retort::host::check
