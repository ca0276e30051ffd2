//! Where the devices are: the random waypoint model (D. B. Johnson and D. A. Maltz, "Dynamic Source Routing in Ad Hoc
//! Wireless Networks", 1996) over the rectangle around the edge hosts. Each device picks a point and a speed uniformly,
//! goes there in a straight line, pauses, and picks again. The nearest host serves it, with hysteresis: another one must
//! be nearer by a margin. Pure: the same seed gives the same trace.
//!
//! The known flaw of the model (the average speed decays when the slowest speed is 0) is avoided with a lowest speed.

use crate::topology::Location;

/// Parameters of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Waypoints {
    /// Lowest speed.
    pub speed_min_m_s: f64,
    /// Highest speed.
    pub speed_max_m_s: f64,
    /// Pause at each point.
    pub pause_s: f64,
    /// Another host must be nearer by this much.
    pub hysteresis_m: f64,
    /// Simulated seconds that go by in one second of the demo.
    pub speed_up: f64,
    /// Seed.
    pub seed: u64,
}

impl Default for Waypoints {
    fn default() -> Self {
        // City traffic, a minute of the demo is an hour.
        let (speed_min_m_s, speed_max_m_s) = (3.0, 15.0);
        Self { speed_min_m_s, speed_max_m_s, pause_s: 30.0, hysteresis_m: 150.0, speed_up: 60.0, seed: 1 }
    }
}

/// A device comes nearer to another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crossing {
    /// Milliseconds of the demo since the trace began.
    pub at_ms: u64,
    /// Index of the device.
    pub device: usize,
    /// Index of the host that it leaves.
    pub from: usize,
    /// Index of the host that is nearer now.
    pub to: usize,
}

/// What the model yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The nearest host of each device at the beginning.
    pub start: Vec<usize>,
    /// Crossings by time.
    pub crossings: Vec<Crossing>,
}

#[derive(Debug, Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
}

impl Point {
    fn distance(self, other: Self) -> f64 {
        (self.x - other.x).hypot(self.y - other.y)
    }
}

/// Step of the simulation, in milliseconds of the demo.
const STEP_MS: u64 = 20;

/// The trace of `devices` devices among `hosts` for `duration_ms` of the demo. Empty without hosts.
pub fn trace(model: &Waypoints, hosts: &[Location], devices: usize, duration_ms: u64) -> Trace {
    let hosts = project(hosts);
    let mut out = Trace { start: Vec::new(), crossings: Vec::new() };
    let Some(area) = Area::around(&hosts) else { return out };
    for device in 0..devices {
        let mut random = fastrand::Rng::with_seed(model.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ device as u64);
        let mut walker = Walker::new(model, &area, &mut random);
        let mut at = nearest(&hosts, walker.at);
        out.start.push(at);
        let mut at_ms = 0;
        while at_ms < duration_ms {
            at_ms += STEP_MS;
            #[allow(clippy::cast_precision_loss)] // small numbers
            walker.step(STEP_MS as f64 / 1000.0 * model.speed_up, model, &area, &mut random);
            let to = nearest(&hosts, walker.at);
            let gain = |i: usize| hosts.get(i).map_or(f64::INFINITY, |h| h.distance(walker.at));
            if to != at && gain(at) - gain(to) > model.hysteresis_m {
                out.crossings.push(Crossing { at_ms, device, from: at, to });
                at = to;
            }
        }
    }
    out.crossings.sort_by_key(|c| (c.at_ms, c.device));
    out
}

struct Walker {
    at: Point,
    to: Point,
    speed: f64,
    pause_s: f64,
}

impl Walker {
    fn new(model: &Waypoints, area: &Area, random: &mut fastrand::Rng) -> Self {
        let (at, to) = (area.point(random), area.point(random));
        Self { at, to, speed: speed(model, random), pause_s: 0.0 }
    }

    fn step(&mut self, mut seconds: f64, model: &Waypoints, area: &Area, random: &mut fastrand::Rng) {
        while seconds > 0.0 {
            if self.pause_s > 0.0 {
                let pause = self.pause_s.min(seconds);
                self.pause_s -= pause;
                seconds -= pause;
                continue;
            }
            let left = self.at.distance(self.to);
            let way = self.speed * seconds;
            if way < left {
                let part = way / left;
                self.at.x += (self.to.x - self.at.x) * part;
                self.at.y += (self.to.y - self.at.y) * part;
                return;
            }
            seconds -= left / self.speed;
            self.at = self.to;
            self.to = area.point(random);
            self.speed = speed(model, random);
            self.pause_s = model.pause_s.max(0.001);
        }
    }
}

fn speed(model: &Waypoints, random: &mut fastrand::Rng) -> f64 {
    let low = model.speed_min_m_s.max(0.1);
    low + random.f64() * (model.speed_max_m_s - low).max(0.0)
}

struct Area {
    low: Point,
    high: Point,
}

impl Area {
    /// The rectangle around the hosts and a third of its longer side on each side.
    fn around(hosts: &[Point]) -> Option<Self> {
        let first = *hosts.first()?;
        let fold = |f: fn(f64, f64) -> f64| hosts.iter().fold(first, |a, h| Point { x: f(a.x, h.x), y: f(a.y, h.y) });
        let (low, high) = (fold(f64::min), fold(f64::max));
        let margin = ((high.x - low.x).max(high.y - low.y) / 3.0).max(200.0);
        Some(Self {
            low: Point { x: low.x - margin, y: low.y - margin },
            high: Point { x: high.x + margin, y: high.y + margin },
        })
    }

    fn point(&self, random: &mut fastrand::Rng) -> Point {
        Point {
            x: self.low.x + random.f64() * (self.high.x - self.low.x),
            y: self.low.y + random.f64() * (self.high.y - self.low.y),
        }
    }
}

/// Metres on a plane that touches the first host: right enough for a city.
fn project(places: &[Location]) -> Vec<Point> {
    const M_PER_DEGREE: f64 = 111_195.0;
    let Some(origin) = places.first() else { return Vec::new() };
    let shrink = origin.lat.to_radians().cos();
    let point = |p: &Location| Point {
        x: (p.lon - origin.lon) * M_PER_DEGREE * shrink,
        y: (p.lat - origin.lat) * M_PER_DEGREE,
    };
    places.iter().map(point).collect()
}

fn nearest(hosts: &[Point], at: Point) -> usize {
    let by_distance = |a: &(usize, &Point), b: &(usize, &Point)| a.1.distance(at).total_cmp(&b.1.distance(at));
    hosts.iter().enumerate().min_by(by_distance).map_or(0, |(i, _)| i)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: [Location; 2] = [Location { lat: 52.5076, lon: 13.3320 }, Location { lat: 52.5219, lon: 13.4132 }];

    #[test]
    fn the_same_seed_gives_the_same_trace_and_devices_cross() {
        let model = Waypoints::default();
        let a = trace(&model, &HOSTS, 50, 30_000);
        assert_eq!(a, trace(&model, &HOSTS, 50, 30_000));
        assert_ne!(a, trace(&Waypoints { seed: 2, ..model }, &HOSTS, 50, 30_000));
        assert!(a.crossings.len() >= 20, "{}", a.crossings.len());
        assert!(a.start.contains(&0) && a.start.contains(&1));
        assert!(a.crossings.windows(2).all(|w| w[0].at_ms <= w[1].at_ms));
    }

    #[test]
    fn crossings_of_a_device_are_a_chain() {
        let t = trace(&Waypoints::default(), &HOSTS, 20, 60_000);
        for device in 0..20 {
            let mut at = t.start[device];
            for c in t.crossings.iter().filter(|c| c.device == device) {
                assert_eq!(c.from, at);
                at = c.to;
            }
        }
    }

    #[test]
    fn odd_input_is_survived() {
        assert!(trace(&Waypoints::default(), &[], 3, 1000).start.is_empty());
        let one = trace(&Waypoints::default(), &HOSTS[..1], 3, 1000);
        assert_eq!((one.start, one.crossings.len()), (vec![0, 0, 0], 0));
    }
}
