//! Timestamps, durations, schedules and content infos.
#![no_main]
use onemec_onem2m::content_info::ContentInfo;
use onemec_onem2m::schedule::ScheduleEntry;
use onemec_onem2m::{AbsRelTimestamp, Timestamp, duration};

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Some(time) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
    }
    let _ = AbsRelTimestamp::parse(text).map(|t| t.at_ms(0));
    let _ = duration::parse_ms(text);
    let _ = ScheduleEntry::parse(text).map(|s| s.contains(1_700_000_000_000));
    let _ = ContentInfo::parse(text);
});
