//! Changes inputs, the same way in every run.

/// Longest input, bytes.
const INPUT_BYTES_MAX: usize = 8192;
/// Bytes at the edges of what decoders tell apart.
const EDGES: &[u8] = b"\0\x01\x02\x7f\x80\xff\n \"%,-.09:_{}";
/// The same for numbers in texts.
const NUMBERS: [&str; 8] =
    ["0", "-1", "101", "65536", "2147483648", "4294967295", "9223372036854775807", "18446744073709551616"];

/// Makes inputs from seeds.
pub struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    state: u64,
}

impl<'a> Mutator<'a> {
    pub fn new(seeds: &'a [Vec<u8>]) -> Self {
        Self { seeds, state: 4 }
    }

    /// The next number of `SplitMix64`, below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit.max(1) as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        if self.below(2) == 0 { EDGES[self.below(EDGES.len())] } else { u8::try_from(self.below(256)).unwrap() }
    }

    /// A seed with a few changes.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.seeds[self.below(self.seeds.len())].clone();
        for _ in 0..=self.below(4) {
            self.change(&mut input);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let end = at + self.below((input.len() - at).min(16) + 1);
        match self.below(9) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => input.insert(at, self.byte()),
            3 => {
                let (block, times) = (input[at..end].to_vec(), 1 + self.below(40));
                input.splice(at..at, block.repeat(times));
            }
            4 => {
                let other = &self.seeds[self.below(self.seeds.len())];
                let from = self.below(other.len() + 1);
                input.splice(at.., other[from..].iter().copied());
            }
            5 => self.change_number(input, at),
            6 => input.push(self.byte()),
            7 if at < input.len() => input[at] = self.byte(),
            _ if at < input.len() => input[at] ^= 1 << self.below(8),
            _ => {}
        }
    }

    /// Puts another number in place of the first one after `at`.
    fn change_number(&mut self, input: &mut Vec<u8>, at: usize) {
        let Some(start) = input[at..].iter().position(u8::is_ascii_digit).map(|offset| at + offset) else { return };
        let digits = input[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = NUMBERS[self.below(NUMBERS.len())];
        input.splice(start..start + digits, number.bytes());
    }
}
