//! segment MODEL IMAGE.ppm NAMES [LABELS.pgm]
//!
//! Looks for things in an image, by their names: "car,traffic light,tree". It prints a line for each, with its score
//! and its share of the image, and writes the labels as a PGM of 8 bits. Without crates:
//!
//!     rustc -O segment.rs -L build/capi -C link-arg=-Wl,-rpath,build/capi

use std::ffi::{c_char, c_void, CStr, CString};
use std::mem::{size_of, zeroed};
use std::ptr::{null, null_mut};
use std::{env, fs, process};

// What this program uses of pnp_ovss.h. A pointer to what it leaves out is a pointer to c_void.

#[repr(C)]
struct RawError {
    struct_size: u32,
    code: i32,
    cause: [c_char; 512],
    cure: [c_char; 256],
}

#[repr(C)]
struct RawImage {
    struct_size: u32,
    width: u32,
    height: u32,
    stride: usize,
    rgb: *const u8,
}

#[repr(C)]
struct RawOutput {
    struct_size: u32,
    reserved: u32,
    labels: *mut u16,
    labels_stride: usize,
    class_maps: *mut f32,
    class_maps_count: usize,
    scores: *mut f32,
    scores_count: usize,
    matches: *mut f32,
    matches_count: usize,
    present: *mut u8,
    present_count: usize,
    timings: *mut c_void,
}

#[repr(C)]
struct RawOptions {
    struct_size: u32,
    threads: i32,
    device: *const c_char,
    verify: i32,
    prepack: i32,
}

#[link(name = "pnp_ovss")]
extern "C" {
    fn pnp_ovss_runtime_open(options: *const c_void, runtime: *mut *mut c_void, error: *mut RawError) -> i32;
    fn pnp_ovss_runtime_close(runtime: *mut c_void);
    fn pnp_ovss_model_open(
        runtime: *mut c_void,
        folder: *const c_char,
        options: *const RawOptions,
        model: *mut *mut c_void,
        error: *mut RawError,
    ) -> i32;
    fn pnp_ovss_model_close(model: *mut c_void);
    fn pnp_ovss_names_create(
        model: *const c_void,
        names: *const *const c_char,
        class_of: *const u32,
        count: usize,
        settings: *const c_void,
        made: *mut *mut c_void,
        error: *mut RawError,
    ) -> i32;
    fn pnp_ovss_names_free(names: *mut c_void);
    fn pnp_ovss_segment(
        model: *const c_void,
        names: *const c_void,
        image: *const RawImage,
        settings: *const c_void,
        cancel: *mut c_void,
        output: *const RawOutput,
        error: *mut RawError,
    ) -> i32;
}

/// Makes a call that fills in an error; the error is its cause and its cure.
fn call(what: impl FnOnce(*mut RawError) -> i32) -> Result<(), String> {
    let mut error: RawError = unsafe { zeroed() };
    error.struct_size = size_of::<RawError>() as u32;
    if what(&mut error) == 0 {
        return Ok(());
    }
    let text = |from: *const c_char| unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned();
    Err(format!("{}\n{}", text(error.cause.as_ptr()), text(error.cure.as_ptr())))
}

/// What the library made, and what frees it.
struct Owned(*mut c_void, unsafe extern "C" fn(*mut c_void));

impl Owned {
    fn make(
        free: unsafe extern "C" fn(*mut c_void),
        what: impl FnOnce(*mut *mut c_void, *mut RawError) -> i32,
    ) -> Result<Owned, String> {
        let mut made = Owned(null_mut(), free);
        call(|error| what(&mut made.0, error))?;
        Ok(made)
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        unsafe { (self.1)(self.0) }
    }
}

struct Image {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

/// Reads a PPM of 8 bits without comments.
fn read_ppm(path: &str) -> Result<Image, String> {
    let odd = || format!("{path} is no PPM (P6) of 8 bits\nconvert it");
    let bytes = fs::read(path).map_err(|error| format!("{path}: {error}\ngive a file that can be read"))?;
    let mut at = 0;
    let mut words = [""; 4];
    for word in &mut words {
        while bytes.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let start = at;
        while bytes.get(at).is_some_and(|byte| !byte.is_ascii_whitespace()) {
            at += 1;
        }
        *word = std::str::from_utf8(&bytes[start..at]).map_err(|_| odd())?;
    }
    let number = |word: &str| word.parse::<u32>().map_err(|_| odd());
    let (width, height) = (number(words[1])?, number(words[2])?);
    let size = (width as usize).checked_mul(height as usize).and_then(|pixels| pixels.checked_mul(3)).ok_or_else(odd)?;
    let rgb = bytes.get(at + 1..).unwrap_or_default();
    if words[0] != "P6" || words[3] != "255" || rgb.len() < size {
        return Err(odd());
    }
    Ok(Image { width, height, rgb: rgb[..size].to_vec() })
}

/// Returns the labels of the pixels and the scores of the classes.
fn segment(folder: &str, image: &Image, names: &[&str]) -> Result<(Vec<u16>, Vec<f32>), String> {
    let odd = |_| "an argument has a zero byte\nremove it".to_string();
    let folder = CString::new(folder).map_err(odd)?;
    let strings = names.iter().map(|&name| CString::new(name)).collect::<Result<Vec<_>, _>>().map_err(odd)?;
    let pointers: Vec<*const c_char> = strings.iter().map(|string| string.as_ptr()).collect();
    let options =
        RawOptions { struct_size: size_of::<RawOptions>() as u32, threads: 1, device: null(), verify: 0, prepack: 0 };
    let pixels = RawImage {
        struct_size: size_of::<RawImage>() as u32,
        width: image.width,
        height: image.height,
        stride: 0,
        rgb: image.rgb.as_ptr(),
    };
    let mut labels = vec![0u16; image.width as usize * image.height as usize];
    let mut scores = vec![0f32; names.len()];
    let mut output: RawOutput = unsafe { zeroed() };
    output.struct_size = size_of::<RawOutput>() as u32;
    output.labels = labels.as_mut_ptr();
    output.scores = scores.as_mut_ptr();
    output.scores_count = scores.len();
    unsafe {
        let runtime = Owned::make(pnp_ovss_runtime_close, |made, error| pnp_ovss_runtime_open(null(), made, error))?;
        let model = Owned::make(pnp_ovss_model_close, |made, error| {
            pnp_ovss_model_open(runtime.0, folder.as_ptr(), &options, made, error)
        })?;
        let classes = Owned::make(pnp_ovss_names_free, |made, error| {
            pnp_ovss_names_create(model.0, pointers.as_ptr(), null(), pointers.len(), null(), made, error)
        })?;
        call(|error| pnp_ovss_segment(model.0, classes.0, &pixels, null(), null_mut(), &output, error))?;
    }
    Ok((labels, scores))
}

fn run() -> Result<(), String> {
    let words: Vec<String> = env::args().collect();
    if !(4..=5).contains(&words.len()) {
        return Err("the arguments are not understood\nsegment MODEL IMAGE.ppm NAMES [LABELS.pgm]".to_string());
    }
    let names: Vec<&str> = words[3].split(',').collect();
    let image = read_ppm(&words[2])?;
    let (labels, scores) = segment(&words[1], &image, &names)?;
    for (index, name) in names.iter().enumerate() {
        let found = labels.iter().filter(|&&label| usize::from(label) == index + 1).count();
        let share = 100.0 * found as f64 / labels.len() as f64;
        println!("{:<24} score {:.3}  {:5.1} % of the pixels", name.trim(), scores[index], share);
    }
    if let Some(path) = words.get(4) {
        let mut pgm = format!("P5\n{} {}\n255\n", image.width, image.height).into_bytes();
        pgm.extend(labels.iter().map(|&label| label.min(255) as u8));
        fs::write(path, pgm).map_err(|error| format!("{path}: {error}\ngive another name"))?;
    }
    Ok(())
}

fn main() {
    if let Err(told) = run() {
        eprintln!("segment: {told}");
        process::exit(1);
    }
}
