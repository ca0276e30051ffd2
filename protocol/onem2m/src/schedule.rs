//! Schedule entries (TS-0004 6.3.3 m2m:scheduleEntry): seven fields, second to year, UTC.

/// When something is allowed or active.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleEntry {}

impl ScheduleEntry {
    /// Reads the seven fields: second, minute, hour, day of month, month, day of week (0 = Sunday), year.
    pub fn parse(_text: &str) -> Option<Self> {
        unimplemented!()
    }
    /// Whether the second that holds `now_ms` is in it.
    pub fn contains(&self, _now_ms: u64) -> bool {
        unimplemented!()
    }
}
