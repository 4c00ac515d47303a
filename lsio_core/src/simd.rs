//! Inner loops compiled for several sets of vector instructions.
//!
//! Loops are plain loops over lanes, which the compiler vectorizes. The program picks the set of instructions of its
//! processor at run time, so that the same binary runs everywhere.

use std::sync::OnceLock;

/// A set of vector instructions that this processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// The instructions of every processor of the compilation target.
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Simd {
    /// The widest set of this processor.
    #[must_use]
    pub fn detect() -> Self {
        static LEVEL: OnceLock<Simd> = OnceLock::new();
        *LEVEL.get_or_init(|| *Self::all().last().unwrap_or(&Self(Level::Baseline)))
    }

    /// All sets of this processor, from the narrowest to the widest.
    #[must_use]
    pub fn all() -> Vec<Self> {
        #[allow(unused_mut, reason = "other processors have one only")]
        let mut all = vec![Self(Level::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Self(Level::Avx2));
            }
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && all.len() > 1
            {
                all.push(Self(Level::Avx512));
            }
        }
        all
    }

    pub(crate) fn level(self) -> Level {
        self.0
    }

    /// Whether `mul_add` is one instruction in loops of this set.
    pub(crate) fn is_fused(self) -> bool {
        self.0 != Level::Baseline || cfg!(target_feature = "fma") || cfg!(target_arch = "aarch64")
    }

    /// The name of the set.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "AVX-512",
        }
    }
}

/// Defines a method of [`Simd`] that runs a loop with the instructions of the set.
macro_rules! kernel {
    ($(#[$doc:meta])* fn $name:ident<T: $bound:ident>($($rest:tt)*) $($more:tt)*) => {
        $crate::simd::kernel!(@ [T: $bound] [T] $(#[$doc])* fn $name($($rest)*) $($more)*);
    };
    ($(#[$doc:meta])* fn $name:ident($($rest:tt)*) $($more:tt)*) => {
        $crate::simd::kernel!(@ [] [] $(#[$doc])* fn $name($($rest)*) $($more)*);
    };
    (@ [$($generic:tt)*] [$($given:tt)*] $(#[$doc:meta])*
        fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        impl $crate::simd::Simd {
            $(#[$doc])*
            pub(crate) fn $name<$($generic)*>(self, $($arg: $ty),*) $(-> $ret)? {
                #[inline(always)]
                fn body<$($generic)*>($($arg: $ty),*) $(-> $ret)? $body

                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma")]
                fn avx2<$($generic)*>($($arg: $ty),*) $(-> $ret)? {
                    body::<$($given)*>($($arg),*)
                }

                #[cfg(target_arch = "x86_64")]
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512<$($generic)*>($($arg: $ty),*) $(-> $ret)? {
                    body::<$($given)*>($($arg),*)
                }

                match self.level() {
                    $crate::simd::Level::Baseline => body::<$($given)*>($($arg),*),
                    // SAFETY: `Simd::all` makes this level only if the processor has all features that it enables.
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Level::Avx2 => unsafe { avx2::<$($given)*>($($arg),*) },
                    // SAFETY: as above.
                    #[cfg(target_arch = "x86_64")]
                    $crate::simd::Level::Avx512 => unsafe { avx512::<$($given)*>($($arg),*) },
                }
            }
        }
    };
}

pub(crate) use kernel;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_always_one() {
        assert!(Simd::all().contains(&Simd::detect()));
        assert_eq!(Simd::all()[0].name(), "baseline");
    }
}
