// Large arrays: their memory is counted, and comes in huge pages, without which its first touch would cost
// as much as a sweep over it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace pnp {

constexpr size_t HUGE_PAGE = size_t(2) << 20;

// Asks for huge pages for the whole ones among the pages of this memory; nothing else changes.
inline void prefer_huge_pages(void *memory, size_t bytes) {
#ifdef __linux__
    const uintptr_t first = (uintptr_t(memory) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    const uintptr_t last = (uintptr_t(memory) + bytes) / HUGE_PAGE * HUGE_PAGE;
    if (first < last) madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

// How much may be taken, what is, and what was at most.
class Memory {
public:
    explicit Memory(int64_t limit) : limit_(limit) {}
    Memory(const Memory &) = delete;

    void take(size_t bytes) {
        const int64_t now = taken_ += int64_t(bytes);
        for (int64_t peak = peak_; now > peak && !peak_.compare_exchange_weak(peak, now);) {
        }
        if (now <= limit_) return;
        give_back(bytes);
        throw std::bad_alloc();
    }

    void give_back(size_t bytes) { taken_ -= int64_t(bytes); }
    int64_t peak() const { return peak_; }

private:
    const int64_t limit_;
    std::atomic<int64_t> taken_{0}, peak_{0};
};

// Large blocks that were freed stay for the next call, up to a limit.
class Pool {
public:
    struct Block {
        void *start;
        size_t bytes;
    };

    static Pool &shared() {
        static Pool *pool = new Pool;  // never ends, as threads may outlive the main one
        return *pool;
    }

    // The smallest block that is large enough and no more than twice as large; null if there is none.
    Block take(size_t bytes) {
        std::lock_guard<std::mutex> lock(mutex_);
        size_t best = blocks_.size();
        for (size_t i = 0; i < blocks_.size(); i++)
            if (blocks_[i].bytes >= bytes && blocks_[i].bytes / 2 <= bytes &&
                (best == blocks_.size() || blocks_[i].bytes < blocks_[best].bytes))
                best = i;
        if (best == blocks_.size()) return {nullptr, 0};
        const Block block = blocks_[best];
        blocks_[best] = blocks_.back();
        blocks_.pop_back();
        kept_ -= block.bytes;
        return block;
    }

    void give(Block block) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (block.bytes < HUGE_PAGE || kept_ + block.bytes > MOST || blocks_.size() == COUNT)
            return std::free(block.start);
        blocks_.push_back(block);
        kept_ += block.bytes;
    }

private:
    static constexpr size_t MOST = size_t(256) << 20, COUNT = 64;
    std::mutex mutex_;
    std::vector<Block> blocks_;
    size_t kept_ = 0;

    Pool() { blocks_.reserve(COUNT); }
};

struct Free {
    Memory *memory = nullptr;
    size_t counted = 0;
    Pool::Block block = {nullptr, 0};

    void operator()(void *) const {
        Pool::shared().give(block);
        memory->give_back(counted);
    }
};

// An array that is not initialized, aligned to cache lines.
template <class T>
using Buffer = std::unique_ptr<T[], Free>;

template <class T>
Buffer<T> uninitialized(int64_t count, Memory &memory) {
    if (uint64_t(count) > (SIZE_MAX >> 1) / sizeof(T)) throw std::bad_alloc();
    const size_t wanted = size_t(count) * sizeof(T);
    const size_t alignment = wanted < HUGE_PAGE / 2 ? 64 : HUGE_PAGE;
    const size_t bytes = (wanted / alignment + 1) * alignment;
    memory.take(bytes);
    Pool::Block block = Pool::shared().take(bytes);
    if (block.start == nullptr) {
        block = {std::aligned_alloc(alignment, bytes), bytes};
        if (block.start == nullptr) {
            memory.give_back(bytes);
            throw std::bad_alloc();
        }
        prefer_huge_pages(block.start, bytes);
    }
    return Buffer<T>(static_cast<T *>(block.start), Free{&memory, bytes, block});
}

}  // namespace pnp
