//! Requests that do not depend on each other's answers: as many outstanding as `--depth` says,
//! or as many per second as `--rate` says.

use quorate_proto::multi::{MultiOp, MultiRequest};
use quorate_proto::request::{PathVersion, PathWatch, SetData};
use quorate_proto::{Request, Version};

use crate::bench::admin;
use crate::bench::args::Preset;
use crate::bench::drive::Workload;
use crate::bench::error::BenchError;
use crate::bench::net::{Answer, ConnId, Handler, Net};
use crate::bench::record::{Recorder, Schedule};
use crate::bench::template::Template;

/// How many znodes [`Preset::Fill`] puts under one parent.
pub(in crate::bench) const NODES_PER_PARENT: u64 = 1_000;

const EPHEMERAL: i32 = 1;

/// What one thread's pump needs to know.
pub(in crate::bench) struct PumpPlan<'a> {
    pub(in crate::bench) preset: Preset,
    pub(in crate::bench) base: &'a str,
    pub(in crate::bench) size: usize,
    pub(in crate::bench) keys: u64,
    pub(in crate::bench) depth: usize,
    /// Requests per second of this thread.
    pub(in crate::bench) rate: Option<f64>,
    pub(in crate::bench) thread: u64,
    pub(in crate::bench) threads: u64,
}

enum Kind {
    /// One request on one of the keys; with two, the first `read` times of a hundred.
    Keys {
        first: Template,
        second: Option<(Template, u64)>,
    },
    /// A set on each of `ops` keys.
    Multi { request: Template, ops: u64 },
    /// A znode of its own each time, below the connection's parent.
    Create(Template),
    /// A znode per slot, deleted when it is there.
    Ephemeral { create: Template, delete: Template },
    /// So many znodes, a thousand to a parent.
    Fill { create: Template, left: u64 },
}

/// The workload.
pub(in crate::bench) struct Pump {
    kind: Kind,
    recorder: Recorder,
    keys: u64,
    depth: usize,
    rate: Option<f64>,
    schedule: Option<Schedule>,
    thread: u64,
    threads: u64,
    random: u64,
    conns: Vec<ConnId>,
    /// By connection id: requests outstanding, and numbers used.
    load: Vec<Load>,
    outstanding: usize,
    cursor: usize,
    numbers: Vec<u64>,
}

#[derive(Clone, Copy, Default)]
struct Load {
    outstanding: usize,
    /// Counts what this connection has begun; names its znodes.
    begun: u64,
    /// Position among the connections of all threads.
    place: u64,
}

/// The tag of an answer: the low byte says which series, the rest is the number of a znode.
const fn tag(series: u32, number: u32) -> u32 {
    (number << 8) | series
}

impl Pump {
    pub(in crate::bench) fn series(preset: Preset) -> &'static [&'static str] {
        match preset {
            Preset::Mixed { .. } => &["read", "write"],
            Preset::Ephemeral => &["create", "delete"],
            Preset::Get => &["get"],
            Preset::Set => &["set"],
            Preset::Multi { .. } => &["multi"],
            Preset::Children { .. } => &["children"],
            _ => &["create"],
        }
    }

    pub(in crate::bench) fn new(
        plan: &PumpPlan<'_>,
        recorder: Recorder,
        conns: Vec<ConnId>,
    ) -> Result<Pump, BenchError> {
        let base = plan.base;
        let data = vec![b'x'; plan.size];
        let key = format!("{base}/k######");
        let get = || {
            Template::new(&Request::GetData(PathWatch {
                path: key.as_str().into(),
                watch: false,
            }))
        };
        let set_data = || SetData {
            path: key.as_str().into(),
            data: Some(&data),
            version: Version::ANY,
        };
        let set = || Template::new(&Request::SetData(set_data()));
        let keys = |first, second| Kind::Keys { first, second };
        let kind = match plan.preset {
            Preset::Set => keys(set()?, None),
            Preset::Mixed { read } => keys(get()?, Some((set()?, u64::from(read)))),
            Preset::Children { .. } => {
                let list = Request::GetChildren(PathWatch {
                    path: base.into(),
                    watch: false,
                });
                keys(Template::new(&list)?, None)
            }
            Preset::Multi { ops } => {
                let ops = (0..ops).map(|_| MultiOp::SetData(set_data())).collect();
                let request: MultiRequest<'_> = MultiRequest { ops };
                let ops = u64::try_from(request.ops.len()).unwrap_or(u64::MAX);
                let request = Template::new(&Request::Multi(request))?;
                Kind::Multi { request, ops }
            }
            Preset::Create => {
                let path = format!("{base}/d######/n##########");
                Kind::Create(Template::new(&admin::create(&path, &data, 0))?)
            }
            Preset::Ephemeral => {
                let path = format!("{base}/e######-######");
                let delete = Request::Delete(PathVersion {
                    path: path.as_str().into(),
                    version: Version::ANY,
                });
                Kind::Ephemeral {
                    create: Template::new(&admin::create(&path, &data, EPHEMERAL))?,
                    delete: Template::new(&delete)?,
                }
            }
            Preset::Fill { count } => {
                let path = format!("{base}/dir-######/node-########");
                let share = (count + plan.threads - 1 - plan.thread) / plan.threads;
                Kind::Fill {
                    create: Template::new(&admin::create(&path, &data, 0))?,
                    left: share,
                }
            }
            Preset::Get
            | Preset::WatchFanout
            | Preset::Lock { .. }
            | Preset::SessionStorm { .. } => keys(get()?, None),
        };
        let slots = conns.iter().max().map_or(0, |max| max + 1);
        let mut load = vec![Load::default(); slots];
        for (place, &conn) in (plan.thread..).step_by(step(plan.threads)).zip(&conns) {
            if let Some(load) = load.get_mut(conn) {
                load.place = place;
            }
        }
        Ok(Pump {
            kind,
            recorder,
            keys: plan.keys.max(1),
            depth: plan.depth,
            rate: plan.rate,
            schedule: None,
            thread: plan.thread,
            threads: plan.threads,
            random: 0x9E37_79B9_7F4A_7C15 ^ (plan.thread + 1),
            conns,
            load,
            outstanding: 0,
            cursor: 0,
            numbers: Vec::new(),
        })
    }

    /// Xorshift: which key is next needs to be spread, not secret.
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % below
    }

    /// Sends one request more.
    fn send(&mut self, net: &mut Net, conn: ConnId, started: u64) {
        let key = self.random(self.keys);
        let dice = self.random(100);
        let Some(load) = self.load.get_mut(conn) else {
            return;
        };
        let (template, series, number) = match &mut self.kind {
            Kind::Keys { first, second } => {
                self.numbers.clear();
                self.numbers.push(key);
                match second {
                    Some((second, read)) if dice >= *read => (&*second, 1, 0),
                    _ => (&*first, 0, 0),
                }
            }
            Kind::Multi { request, ops } => {
                self.numbers.clear();
                self.numbers
                    .extend((0..*ops).map(|i| (key + i) % self.keys));
                (&*request, 0, 0)
            }
            Kind::Create(create) => {
                self.numbers.clear();
                self.numbers.extend([load.place, load.begun]);
                (&*create, 0, 0)
            }
            Kind::Ephemeral { create, .. } => {
                let number = u32::try_from(load.begun % 1_000_000).unwrap_or(0);
                self.numbers.clear();
                self.numbers.extend([load.place, u64::from(number)]);
                (&*create, 0, number)
            }
            Kind::Fill { create, left } => {
                *left = left.saturating_sub(1);
                let node = self.thread + self.threads * *left;
                self.numbers.clear();
                self.numbers.extend([node / NODES_PER_PARENT, node]);
                (&*create, 0, 0)
            }
        };
        load.begun += 1;
        load.outstanding += 1;
        self.outstanding += 1;
        net.send(conn, template, &self.numbers, tag(series, number), started);
    }

    /// Whether there is more to send at `now`.
    fn goes_on(&self, now: u64) -> bool {
        match self.kind {
            Kind::Fill { left, .. } => left > 0,
            _ => now < self.recorder.end(),
        }
    }

    /// The next connection with room for a request.
    fn free_conn(&mut self) -> Option<ConnId> {
        for _ in 0..self.conns.len() {
            self.cursor = (self.cursor + 1) % self.conns.len();
            let conn = *self.conns.get(self.cursor)?;
            if self.load.get(conn)?.outstanding < self.depth {
                return Some(conn);
            }
        }
        None
    }
}

impl Handler for Pump {
    fn answered(&mut self, net: &mut Net, answer: &Answer<'_>) -> Result<(), BenchError> {
        let (series, number) = (answer.tag & 0xff, answer.tag >> 8);
        let index = usize::try_from(series).unwrap_or(0);
        self.recorder
            .record(index, answer.started, answer.now, answer.err);
        let Some(load) = self.load.get_mut(answer.conn) else {
            return Ok(());
        };
        if let Kind::Ephemeral { delete, .. } = &self.kind
            && series == 0
            && answer.err == 0
        {
            let numbers = [load.place, u64::from(number)];
            net.send(answer.conn, delete, &numbers, tag(1, number), answer.now);
            return Ok(());
        }
        load.outstanding -= 1;
        self.outstanding -= 1;
        if self.schedule.is_none() && self.goes_on(answer.now) {
            self.send(net, answer.conn, answer.now);
        }
        Ok(())
    }
}

impl Workload for Pump {
    fn begin(&mut self, net: &mut Net, now: u64) -> Result<(), BenchError> {
        if let Some(rate) = self.rate {
            self.schedule = Some(Schedule::new(now, rate));
            return Ok(());
        }
        for _ in 0..self.depth {
            for at in 0..self.conns.len() {
                if let Some(&conn) = self.conns.get(at)
                    && self.goes_on(now)
                {
                    self.send(net, conn, now);
                }
            }
        }
        Ok(())
    }

    fn tick(&mut self, net: &mut Net, now: u64) -> Result<u64, BenchError> {
        let Some(mut schedule) = self.schedule.take() else {
            return Ok(u64::MAX);
        };
        let end = self.recorder.end();
        let mut wake = u64::MAX;
        while schedule.next() < end {
            // Without room the request waits for an answer; its clock is running all the same.
            if schedule.next() > now {
                wake = schedule.next();
                break;
            }
            let Some(conn) = self.free_conn() else {
                break;
            };
            if let Some(started) = schedule.take_due(now) {
                self.send(net, conn, started);
            }
        }
        self.schedule = Some(schedule);
        Ok(wake)
    }

    fn finished(&self, now: u64) -> bool {
        let scheduled = self.schedule.as_ref().map(Schedule::next);
        let more = scheduled.map_or_else(|| self.goes_on(now), |next| next < self.recorder.end());
        self.outstanding == 0 && !more
    }

    fn give_up(&mut self) {
        let started = self.recorder.window().start;
        for _ in 0..self.outstanding {
            self.recorder.lost(0, started);
        }
    }

    fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    fn into_recorder(self) -> Recorder {
        self.recorder
    }
}

fn step(threads: u64) -> usize {
    usize::try_from(threads).unwrap_or(1).max(1)
}
