// Large arrays: their memory is counted, and comes in huge pages, without which its first touch would cost
// as much as a sweep over it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

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

struct Free {
    Memory *memory = nullptr;
    size_t bytes = 0;

    void operator()(void *array) const {
        std::free(array);
        memory->give_back(bytes);
    }
};

// An array that is not initialised, aligned to cache lines.
template <class T>
using Buffer = std::unique_ptr<T[], Free>;

template <class T>
Buffer<T> uninitialised(int64_t count, Memory &memory) {
    if (uint64_t(count) > (SIZE_MAX >> 1) / sizeof(T)) throw std::bad_alloc();
    const size_t wanted = size_t(count) * sizeof(T);
    const size_t alignment = wanted < HUGE_PAGE / 2 ? 64 : HUGE_PAGE;
    const size_t bytes = (wanted / alignment + 1) * alignment;
    memory.take(bytes);
    void *array = std::aligned_alloc(alignment, bytes);
    if (array == nullptr) {
        memory.give_back(bytes);
        throw std::bad_alloc();
    }
    if (alignment == HUGE_PAGE) prefer_huge_pages(array, bytes);
    return Buffer<T>(static_cast<T *>(array), Free{&memory, bytes});
}

}  // namespace pnp
