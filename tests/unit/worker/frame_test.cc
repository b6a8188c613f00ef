// Frames and fields: what is written is read, and nothing that isn't there is ever read.
// SPDX-License-Identifier: Apache-2.0
#include "host/worker/frame.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "frame_bytes.h"

namespace retort::host {
namespace {

TEST(Frame, FieldsComeBack) {
  const std::string large(5000, 'y');  // borrowed
  FrameWriter out;
  out.Uint(7);
  out.Text(std::string_view("abc"));
  out.Text(std::string_view(large));
  out.Text(retort_str{});
  out.Text(std::string_view(""));
  out.Double(-0.5);
  out.Int(-3);
  const AlignedBytes bytes(out.Flatten());
  EXPECT_EQ(bytes.view().size() % 8, 0u);
  FrameReader in(bytes.view());
  EXPECT_EQ(in.Uint(), 7u);
  EXPECT_EQ(in.Text(), "abc");
  EXPECT_EQ(in.Text(), large);
  EXPECT_EQ(in.Str().ptr, nullptr);
  const retort_str empty = in.Str();
  EXPECT_NE(empty.ptr, nullptr) << "empty is not absent";
  EXPECT_EQ(empty.len, 0u);
  EXPECT_EQ(in.Double(), -0.5);
  EXPECT_EQ(in.Int(), -3);
  EXPECT_TRUE(in.AtEnd());
}

TEST(Frame, APieceCopiedIsAPieceBorrowed) {
  const std::string text(3000, 'z');
  FrameWriter borrowing, copying;
  copying.CopyAll();
  for (FrameWriter* out : {&borrowing, &copying}) {
    out->Uint(1);
    out->Text(std::string_view(text));
  }
  EXPECT_EQ(borrowing.Flatten(), copying.Flatten());
  EXPECT_EQ(borrowing.size(), copying.size());
}

TEST(Frame, SealedPiecesAreHeaderAndFields) {
  const std::string text(3000, 'z');
  FrameWriter out;
  out.Uint(1);
  out.Text(std::string_view(text));
  std::string sent;
  for (const iovec& piece : out.Seal(FrameType::kScore, 9)) {
    sent.append(static_cast<const char*>(piece.iov_base), piece.iov_len);
  }
  FrameHeader header;
  std::memcpy(&header, sent.data(), sizeof header);
  EXPECT_EQ(header.number, 9u);
  EXPECT_EQ(header.size, sent.size() - sizeof header);
  EXPECT_EQ(sent.substr(sizeof header), out.Flatten());
}

TEST(FrameReader, NothingIsReadPastTheEnd) {
  const AlignedBytes bytes(std::string(12, '\1'));
  FrameReader in(bytes.view());
  in.Uint();
  EXPECT_TRUE(in.ok());
  EXPECT_EQ(in.Uint(), 0u) << "four bytes are no number";
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.Text(), "") << "after the first failure everything is zero";
}

TEST(FrameReader, LengthsAreComparedWithWhatRemains) {
  for (const uint64_t length : {uint64_t{9}, uint64_t{1} << 40, UINT64_MAX - 1, UINT64_MAX - 7}) {
    FrameWriter out;
    out.Uint(length);
    out.Uint(0);
    const AlignedBytes bytes(out.Flatten());
    EXPECT_EQ(FrameReader(bytes.view()).Text(), "") << length;
    FrameReader in(bytes.view());
    in.Text();
    EXPECT_FALSE(in.ok()) << length;
    FrameReader count(bytes.view());
    EXPECT_EQ(count.Count(8), 0u);
    EXPECT_FALSE(count.ok());
    FrameReader array(bytes.view());
    EXPECT_TRUE(array.Array<double>(length).empty());
    EXPECT_FALSE(array.ok());
  }
}

TEST(FrameReader, NarrowIntegersRefuseWideValues) {
  FrameWriter out;
  out.Uint(uint64_t{1} << 32);
  const AlignedBytes bytes(out.Flatten());
  FrameReader u(bytes.view()), i(bytes.view());
  u.Uint32();
  i.Int32();
  EXPECT_FALSE(u.ok());
  EXPECT_FALSE(i.ok());
}

// Puts bytes into an inbox, `step` at a time, and counts the frames that come out.
Result<int> Feed(const std::string& bytes, size_t step) {
  Inbox inbox;
  int frames = 0;
  size_t pos = 0;
  for (;;) {
    Inbox::Frame frame;
    RETORT_ASSIGN_OR_RETURN(const bool found, inbox.Next(&frame));
    if (found) {
      ++frames;
      EXPECT_EQ(reinterpret_cast<uintptr_t>(frame.fields.data()) % 8, 0u);
      continue;
    }
    if (pos == bytes.size()) return frames;
    RETORT_ASSIGN_OR_RETURN(const std::span<char> room, inbox.Room());
    const size_t n = std::min({step, room.size(), bytes.size() - pos});
    std::memcpy(room.data(), bytes.data() + pos, n);
    inbox.Arrived(n);
    pos += n;
  }
}

std::string FrameOf(uint64_t size, uint32_t magic = kFrameMagic) {
  const FrameHeader header{magic, 101, 1, size};
  return std::string(reinterpret_cast<const char*>(&header), sizeof header);
}

TEST(Inbox, FramesComeOutHoweverTheyArrive) {
  std::string bytes;
  for (const size_t size : {0, 8, 4096, 200'000, 16})
    bytes += FrameOf(size) + std::string(size, 'q');
  for (const size_t step : {1, 7, 1000, 1 << 20}) {
    const Result<int> frames = Feed(bytes, step);
    ASSERT_TRUE(frames.ok()) << frames.status().ToString();
    EXPECT_EQ(*frames, 5) << step;
  }
}

TEST(Inbox, BadHeadersAreRefusedBeforeTheirBytesAreWaitedFor) {
  for (const std::string& bytes : {FrameOf(8, 0x12345678), FrameOf(kMaxFrameBytes + 8),
                                   FrameOf(UINT64_MAX - 7), FrameOf(7), std::string(64, 'Z')}) {
    EXPECT_EQ(Feed(bytes, 1000).status().code(), Code::kDataLoss);
  }
}

TEST(Inbox, AnAnnouncedGigabyteTakesNoMemoryUntilItArrives) {
  Inbox inbox;
  const std::string header = FrameOf(kMaxFrameBytes);
  Result<std::span<char>> room = inbox.Room();
  ASSERT_TRUE(room.ok());
  std::memcpy(room->data(), header.data(), header.size());
  inbox.Arrived(header.size());
  room = inbox.Room();
  ASSERT_TRUE(room.ok());
  EXPECT_LE(room->size(), size_t{16} << 20);
}

}  // namespace
}  // namespace retort::host
