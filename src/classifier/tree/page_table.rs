//! Port, zone or protocol to class: pages of 256 values, equal pages kept once.

use std::collections::HashMap;

const PAGE_VALUES: usize = 256;

/// The class of every 16-bit value.
#[derive(Debug, Clone)]
pub(super) struct PageTable {
    /// By high byte: where the page begins in `classes`.
    pages: Box<[u32; PAGE_VALUES]>,
    /// Page after page; classes of 65,536 values fit 16 bits.
    classes: Vec<u16>,
}

impl PageTable {
    /// From the first value and the class of each stretch of values; the first begins at 0.
    pub(super) fn new(stretches: &[(u128, u32)]) -> Self {
        let mut table = PageTable {
            pages: Box::new([0; PAGE_VALUES]),
            classes: Vec::new(),
        };
        let mut known: HashMap<Vec<u16>, u32> = HashMap::new();
        let mut rest = stretches.iter().peekable();
        let mut class = 0;
        for page in 0..PAGE_VALUES {
            let values = page * PAGE_VALUES..(page + 1) * PAGE_VALUES;
            let classes: Vec<u16> = values
                .map(|value| {
                    while let Some(&(_, next)) = rest.next_if(|stretch| stretch.0 <= value as u128)
                    {
                        class = next;
                    }
                    class as u16
                })
                .collect();
            let begin = table.classes.len() as u32;
            table.pages[page] = *known.entry(classes).or_insert_with_key(|classes| {
                table.classes.extend_from_slice(classes);
                begin
            });
        }
        table
    }

    /// The class of a value.
    #[inline]
    pub(super) fn class(&self, value: u16) -> u32 {
        let begin = self.pages[usize::from(value >> 8)] as usize;
        self.classes[begin + usize::from(value & 0xff)].into()
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> u64 {
        (size_of_val(self.pages.as_slice()) + size_of_val(self.classes.as_slice())) as u64
    }

    /// Different pages, for dumps.
    pub(super) fn page_count(&self) -> usize {
        self.classes.len() / PAGE_VALUES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_has_the_class_of_its_stretch() {
        let stretches = [(0, 3), (80, 1), (81, 3), (256, 2), (40_000, 0), (65_535, 4)];
        let table = PageTable::new(&stretches);
        for value in 0..=u16::MAX {
            let after = stretches.partition_point(|stretch| stretch.0 <= value.into());
            assert_eq!(table.class(value), stretches[after - 1].1, "at {value}");
        }
        assert_eq!(table.page_count(), 5);
    }
}
