// Makes the n-th allocation of a program fail, or the n-th start of a thread. The program is linked with
// -Wl,--wrap for malloc, calloc, realloc, aligned_alloc and posix_memalign; operator new is replaced.
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <new>

#include <dlfcn.h>
#include <pthread.h>

extern "C" {
void *__real_malloc(std::size_t);
void *__real_calloc(std::size_t, std::size_t);
void *__real_realloc(void *, std::size_t);
void *__real_aligned_alloc(std::size_t, std::size_t);
int __real_posix_memalign(void **, std::size_t, std::size_t);
}

namespace {

std::atomic<long> allocations{0}, threads{0};  // until one fails; 0: none does
std::atomic<bool> goes_on{false}, failed{false};

bool fails(std::atomic<long> &left) {
    for (long now = left;;) {
        if (now == 0) return false;
        if (now == 1 && goes_on) break;
        if (left.compare_exchange_weak(now, now - 1)) {
            if (now == 1) break;
            return false;
        }
    }
    failed = true;
    return true;
}

void *take(std::size_t bytes, std::size_t alignment) {
    if (fails(allocations)) return nullptr;
    if (alignment <= alignof(std::max_align_t)) return __real_malloc(bytes ? bytes : 1);
    return __real_aligned_alloc(alignment, (bytes / alignment + 1) * alignment);
}

void *take_or_throw(std::size_t bytes, std::size_t alignment = 0) {
    void *memory = take(bytes, alignment);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

}  // namespace

extern "C" {

void fail_allocation(long n, int on) {
    failed = false;
    goes_on = on != 0;
    allocations = n;
}

void no_more_memory(void) { fail_allocation(1, 1); }

void fail_thread(long n) {
    if (n) failed = goes_on = false;
    threads = n;
}

int allocation_failed(void) { return failed; }

void *__wrap_malloc(std::size_t bytes) { return fails(allocations) ? nullptr : __real_malloc(bytes); }
void *__wrap_calloc(std::size_t count, std::size_t bytes) {
    return fails(allocations) ? nullptr : __real_calloc(count, bytes);
}
void *__wrap_realloc(void *memory, std::size_t bytes) {
    return fails(allocations) ? nullptr : __real_realloc(memory, bytes);
}
void *__wrap_aligned_alloc(std::size_t alignment, std::size_t bytes) {
    return fails(allocations) ? nullptr : __real_aligned_alloc(alignment, bytes);
}
int __wrap_posix_memalign(void **memory, std::size_t alignment, std::size_t bytes) {
    return fails(allocations) ? ENOMEM : __real_posix_memalign(memory, alignment, bytes);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *), void *argument) {
    using Create = int (*)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    static const Create real = reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"));
    return fails(threads) ? EAGAIN : real(thread, attributes, start, argument);
}

}  // extern "C"

void *operator new(std::size_t bytes) { return take_or_throw(bytes); }
void *operator new[](std::size_t bytes) { return take_or_throw(bytes); }
void *operator new(std::size_t bytes, std::align_val_t alignment) {
    return take_or_throw(bytes, std::size_t(alignment));
}
void *operator new[](std::size_t bytes, std::align_val_t alignment) {
    return take_or_throw(bytes, std::size_t(alignment));
}
void *operator new(std::size_t bytes, const std::nothrow_t &) noexcept { return take(bytes, 0); }
void *operator new[](std::size_t bytes, const std::nothrow_t &) noexcept { return take(bytes, 0); }
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete[](void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void *memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void *memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void *memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void *memory, const std::nothrow_t &) noexcept { std::free(memory); }
void operator delete[](void *memory, const std::nothrow_t &) noexcept { std::free(memory); }
