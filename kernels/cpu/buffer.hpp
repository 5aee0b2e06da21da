// Large arrays, whose memory is counted and lies in huge pages. Without huge pages the first touch of an
// array would cost as much as a sweep over it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <new>
#include <vector>

#include <pthread.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

namespace pnp {

constexpr size_t HUGE_PAGE = size_t(2) << 20;

// Asks the kernel (madvise) to back the memory by huge pages, as far as it holds whole ones of 2 MiB.
inline void prefer_huge_pages(void *memory, size_t bytes) {
#ifdef __linux__
    const uintptr_t first = (uintptr_t(memory) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    const uintptr_t last = (uintptr_t(memory) + bytes) / HUGE_PAGE * HUGE_PAGE;
    if (first < last) madvise(reinterpret_cast<void *>(first), last - first, MADV_HUGEPAGE);
#else
    (void)memory, (void)bytes;
#endif
}

// Counts the bytes that are allocated, and their peak. Above the limit (in bytes) it throws std::bad_alloc.
class Memory {
public:
    explicit Memory(int64_t limit) : limit_(limit) {}
    Memory(const Memory &) = delete;

    void reserve(size_t bytes) {
        const int64_t total = reserved_ += int64_t(bytes);
        for (int64_t peak = peak_; total > peak && !peak_.compare_exchange_weak(peak, total);) {
        }
        if (total <= limit_) return;
        release(bytes);
        throw std::bad_alloc();
    }

    void release(size_t bytes) { reserved_ -= int64_t(bytes); }
    int64_t peak() const { return peak_; }

private:
    const int64_t limit_;
    std::atomic<int64_t> reserved_{0}, peak_{0};
};

// Stores large freed blocks for the next call, up to MAX_BYTES and MAX_BLOCKS in all.
class Pool {
public:
    struct Block {
        void *start;
        size_t bytes;
    };

    static Pool &shared() {
        static Pool *pool = new Pool;  // never destroyed: threads may outlive the main thread
        return *pool;
    }

    // Takes the smallest block of at least `bytes` and at most about twice as many; null if the pool has none.
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
        pooled_bytes_ -= block.bytes;
        return block;
    }

    void give(Block block) {
        if (!keep(block)) std::free(block.start);
    }

private:
    bool keep(Block block) {
        if (block.bytes < HUGE_PAGE) return false;
        std::lock_guard<std::mutex> lock(mutex_);
        if (pooled_bytes_ + block.bytes > MAX_BYTES || blocks_.size() == MAX_BLOCKS) return false;
        blocks_.push_back(block);
        pooled_bytes_ += block.bytes;
        return true;
    }

    static constexpr size_t MAX_BYTES = size_t(256) << 20, MAX_BLOCKS = 64;
    std::mutex mutex_;
    std::vector<Block> blocks_;
    size_t pooled_bytes_ = 0;

    // A fork waits for whoever holds the lock: in the child that thread would never let go of it.
    Pool() {
        blocks_.reserve(MAX_BLOCKS);
        pthread_atfork([] { shared().mutex_.lock(); }, [] { shared().mutex_.unlock(); },
                       [] { shared().mutex_.unlock(); });
    }
};

// Deleter of a Buffer: gives its block to the pool, and its bytes back to the count.
struct Free {
    Memory *memory = nullptr;
    size_t counted = 0;
    Pool::Block block = {nullptr, 0};

    void operator()(void *) const {
        Pool::shared().give(block);
        memory->release(counted);
    }
};

// An array without initial values, aligned to cache lines (64 bytes) at least.
template <class T>
using Buffer = std::unique_ptr<T[], Free>;

// Allocates `count` values; throws std::bad_alloc where memory or its limit does not suffice.
template <class T>
Buffer<T> uninitialized(int64_t count, Memory &memory) {
    if (uint64_t(count) > (SIZE_MAX >> 1) / sizeof(T)) throw std::bad_alloc();
    const size_t wanted = size_t(count) * sizeof(T);
    const size_t alignment = wanted < HUGE_PAGE / 2 ? 64 : HUGE_PAGE;
    const size_t bytes = (wanted / alignment + 1) * alignment;
    memory.reserve(bytes);
    Pool::Block block = Pool::shared().take(bytes);
    if (block.start == nullptr) {
        block = {std::aligned_alloc(alignment, bytes), bytes};
        if (block.start == nullptr) {
            memory.release(bytes);
            throw std::bad_alloc();
        }
        prefer_huge_pages(block.start, bytes);
    }
    return Buffer<T>(static_cast<T *>(block.start), Free{&memory, bytes, block});
}

}  // namespace pnp
