//! Discovery over a CSEBase, and retrieves that show its children: its own context, then those of the AEs whose home it is,
//! wherever they are served. The node of the CSEBase asks them all at the same time, within the request's deadline; who
//! gives no answer is missing from the result, which says so (docs/extensions.md, `X-Onemec-Incomplete`).

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use onemec_core::context::{BoxFuture, CallError, CallOptions, ContextKind, Place};
use onemec_onem2m::filter::{FilterCriteria, FilterUsage};
use onemec_onem2m::limits::RESULTS_MAX;
use onemec_onem2m::result::{self, Branch, Nesting, Reference, Room};
use onemec_onem2m::{CseIdentity, Operation, Refusal, ResultContent, Rsc};
use tokio::time::Instant;

use super::Inner;
use super::exec::{Done, Trouble};
use crate::access::{Asker, Stop};
use crate::op::{self, BranchHead, Facts, Part, Read, ReadOp, Reply};
use crate::tree::Target;
use crate::view::View;

/// AEs that are looked up in the directory at a time.
const PAGE: usize = 256;
/// AEs that are asked at the same time.
const ASKED_MAX: usize = 32;
/// How often one context may ask for more facts.
const ROUNDS_MAX: usize = 3;
/// Part of the deadline after which what has not come is missing.
const PATIENCE_PER_CENT: u32 = 80;

/// A result that grows.
#[derive(Clone)]
enum Gathered {
    /// rcn 4 and 8.
    Nested(Nesting),
    /// rcn 5 and 6, and discovery.
    Listed(Listed),
}

/// References as they are found: those before the offset are counted, not kept.
#[derive(Clone)]
struct Listed {
    offset: u32,
    limit: usize,
    passed: u32,
    shown: Vec<Reference>,
    /// There is one more than is shown.
    more: bool,
}

/// What one AE adds; of references the offset, within the AE, at which to go on.
enum Piece {
    Branch(Option<Branch>),
    References(Vec<Reference>, Option<u32>),
}

/// What is asked of every context.
#[derive(Clone, Copy)]
struct Question<'a> {
    read: &'a Read,
    part: Part,
    until: Instant,
    call: &'a CallOptions,
}

impl Inner {
    /// Whether a retrieve shows what lies below its target.
    pub(super) fn shows_children(read: &Read) -> bool {
        use ResultContent::{AttributesAndChildReferences, AttributesAndChildren, ChildReferences, Children};
        matches!(
            ResultContent::from_u8(read.rcn),
            Some(AttributesAndChildren | AttributesAndChildReferences | ChildReferences | Children)
        )
    }

    /// Gathers at the node that serves the CSEBase.
    pub(super) async fn gather(&self, base: &Place, read: Read, call: &CallOptions) -> Result<Done, Trouble> {
        if self.index.open(base.context).is_some() {
            return self.gather_here(base, read, call.deadline).await;
        }
        let ms = u32::try_from(call.deadline.as_millis()).unwrap_or(u32::MAX);
        match self.read_there(base, &ReadOp::Gather(Box::new(read), ms), call).await? {
            (Reply::Gathered { next_offset, missing }, body) => {
                Ok(Done { rsc: Rsc::OK.0, created: None, next_offset, missing, body })
            }
            (Reply::Refused { rsc, debug }, _) => Err(Refusal::new(Rsc(rsc), debug).into()),
            _ => Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "unexpected answer").into()),
        }
    }

    /// The same at this node, which serves it.
    pub(super) async fn gather_here(&self, base: &Place, mut read: Read, deadline: Duration) -> Result<Done, Trouble> {
        let until = Instant::now() + deadline * PATIENCE_PER_CENT / 100;
        let call = CallOptions { deadline, ..self.internal_call() };
        let mut filter = read.filter.as_deref().map(FilterCriteria::from_json).transpose()?.unwrap_or_default();
        filter.check()?;
        let mut gathered = Gathered::new(&read, &filter);
        if let Gathered::Listed(listed) = &gathered {
            // Nobody needs to find more than this.
            (filter.ofst, filter.lim) = (None, Some(listed.wanted()));
            read.filter = Some(filter.to_json());
        }
        self.begin(base, &mut read, &filter, &mut gathered, &call).await?;
        let missing = self.go_on(base, &read, &mut gathered, until, &call).await;
        self.finish_gathering(base, &read, gathered, missing)
    }

    /// What the CSEBase's own context adds, and whether the originator may ask for it at all.
    async fn begin(
        &self,
        base: &Place,
        read: &mut Read,
        filter: &FilterCriteria,
        gathered: &mut Gathered,
        call: &CallOptions,
    ) -> Result<(), Trouble> {
        for _ in 0..ROUNDS_MAX {
            match self.begin_once(base, read, filter, gathered.clone()) {
                Ok(begun) => {
                    *gathered = begun;
                    return Ok(());
                }
                Err(Stop::Refused(refusal)) => return Err(refusal.into()),
                Err(Stop::Needs(needs)) => self.fetch(&needs, &read.who, &mut read.facts, call).await?,
            }
        }
        Err(Refusal::new(Rsc::ORIGINATOR_HAS_NO_PRIVILEGE, "access cannot be decided").into())
    }

    fn begin_once(
        &self,
        base: &Place,
        read: &Read,
        filter: &FilterCriteria,
        mut gathered: Gathered,
    ) -> Result<Gathered, Stop> {
        let served = self.index.open(base.context).ok_or_else(gone)?;
        let home = read.home.identity();
        let asker = Asker { who: &read.who, facts: &read.facts, home: &home, now_ms: self.contexts.now_ms() };
        let tree = served.tree.read();
        let view = View { tree: &tree, history: &*served.history, home: &home };
        let root = view.root().ok_or_else(gone)?;
        if filter.fu != Some(FilterUsage::Discovery) {
            asker.may(&tree, root.found(), Operation::Retrieve.into(), None).required()?;
        }
        match &mut gathered {
            Gathered::Nested(nesting) => crate::read::nest(&view, &root, filter, &asker, nesting)?,
            Gathered::Listed(listed) => {
                let mut page = read.clone();
                loop {
                    let found = crate::read::discover(&view, &page, &asker, false)?;
                    listed.add(found.references);
                    let Some(next) = found.next_offset.filter(|_| !listed.more) else { break };
                    page.filter = Some(at_offset(filter, next));
                }
            }
        }
        Ok(gathered)
    }

    /// What the AEs add, in their order, until there is enough. How many gave no answer.
    async fn go_on(
        &self,
        base: &Place,
        read: &Read,
        gathered: &mut Gathered,
        until: Instant,
        call: &CallOptions,
    ) -> u32 {
        let (mut after, mut missing, mut looked) = (None, 0u32, 0);
        while !gathered.is_enough() {
            let page = self.contexts.at_home(base.home, ContextKind::AE, after, PAGE);
            after = page.last().map(|p| p.context);
            let (is_last, count) = (page.len() < PAGE, page.len());
            let question = Question { read, part: gathered.part(), until, call };
            let mut answers = futures_util::stream::iter(page)
                .map(|place| -> BoxFuture<'_, _> { Box::pin(self.piece_in_time(place, question)) })
                .buffered(ASKED_MAX);
            while let Some(answer) = answers.next().await {
                match answer {
                    Some(Ok(piece)) => gathered.add(piece),
                    // Deregistered a moment ago.
                    Some(Err(Trouble::Refused(refusal))) if refusal.rsc == Rsc::NOT_FOUND => {}
                    Some(Err(_)) | None => missing = missing.saturating_add(1),
                }
                if gathered.is_enough() {
                    return missing;
                }
            }
            looked += count;
            if is_last {
                break;
            }
            if looked >= self.options.discovery_contexts_max {
                return missing.saturating_add(1);
            }
        }
        missing
    }

    /// `None`: not in time.
    async fn piece_in_time(&self, place: Place, question: Question<'_>) -> Option<Result<Piece, Trouble>> {
        tokio::time::timeout_at(question.until, self.piece(&place, question)).await.ok()
    }

    /// What one AE adds: looked up here if it is served here, else asked where it is (which wakes a passive one).
    async fn piece(&self, place: &Place, question: Question<'_>) -> Result<Piece, Trouble> {
        let mut read = Read { target: Target::root(), facts: Facts::default(), ..question.read.clone() };
        let mut found = Vec::new();
        for _ in 0..ROUNDS_MAX {
            match self.piece_once(place, &read, question.part, question.call).await? {
                Ok(Piece::References(more, next)) => {
                    found.extend(more);
                    let filter = read.filter.as_deref().map(FilterCriteria::from_json).transpose()?.unwrap_or_default();
                    match next.filter(|_| found.len() < filter.lim.map_or(0, |l| l as usize)) {
                        None => return Ok(Piece::References(found, None)),
                        Some(next) => read.filter = Some(at_offset(&filter, next)),
                    }
                }
                Ok(piece) => return Ok(piece),
                Err(Stop::Refused(refusal)) => return Err(refusal.into()),
                Err(Stop::Needs(needs)) => self.fetch(&needs, &read.who, &mut read.facts, question.call).await?,
            }
        }
        Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "access cannot be decided").into())
    }

    async fn piece_once(
        &self,
        place: &Place,
        read: &Read,
        part: Part,
        call: &CallOptions,
    ) -> Result<Result<Piece, Stop>, Trouble> {
        if let Some(piece) = self.piece_here(place, read, part) {
            return Ok(piece);
        }
        let op = ReadOp::Part(Box::new(read.clone()), part);
        Ok(match self.read_there(place, &op, call).await? {
            (Reply::References(next), body) => {
                let unreadable = || Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "the references cannot be read");
                Ok(Piece::References(op::read_references(&body).ok_or_else(unreadable)?, next))
            }
            (Reply::Branch(head), body) => Ok(Piece::Branch(head.map(|head| head.with(body.into())))),
            (Reply::Needs(needs), _) => Err(Stop::Needs(needs)),
            (Reply::Refused { rsc, debug }, _) => Err(Refusal::new(Rsc(rsc), debug).into()),
            _ => Err(Refusal::new(Rsc::INTERNAL_SERVER_ERROR, "unexpected answer").into()),
        })
    }

    /// `None` if the context is not served here, or was not any more after the look.
    fn piece_here(&self, place: &Place, read: &Read, part: Part) -> Option<Result<Piece, Stop>> {
        let served = self.index.open(place.context)?;
        let home = read.home.identity();
        let asker = Asker { who: &read.who, facts: &read.facts, home: &home, now_ms: self.contexts.now_ms() };
        let tree = served.tree.read();
        let view = View { tree: &tree, history: &*served.history, home: &home };
        let done = match part {
            Part::References => {
                crate::read::discover(&view, read, &asker, true).map(|f| Piece::References(f.references, f.next_offset))
            }
            Part::Branch { resources, bytes } => {
                let room = Room { resources: resources as usize, bytes: bytes as usize };
                crate::read::branch(&view, read, &asker, room).map(Piece::Branch)
            }
        };
        served.gate.is_open().then_some(done)
    }

    /// Answers another node's [`ReadOp::Part`].
    pub(super) fn part(&self, place: &Place, read: &Read, part: Part) -> (Reply, Bytes) {
        match self.piece_here(place, read, part) {
            None => (Reply::refused(&gone()), Bytes::new()),
            Some(Err(Stop::Refused(refusal))) => (Reply::refused(&refusal), Bytes::new()),
            Some(Err(Stop::Needs(needs))) => (Reply::Needs(needs), Bytes::new()),
            Some(Ok(Piece::References(references, next))) => {
                (Reply::References(next), op::references_as_bytes(references))
            }
            Some(Ok(Piece::Branch(branch))) => match branch {
                None => (Reply::Branch(None), Bytes::new()),
                Some(branch) => {
                    let (head, json) = BranchHead::of(branch);
                    (Reply::Branch(Some(head)), json.into())
                }
            },
        }
    }

    fn finish_gathering(&self, base: &Place, read: &Read, gathered: Gathered, missing: u32) -> Result<Done, Trouble> {
        let served = self.index.open(base.context).ok_or_else(|| {
            // What was gathered may be old by now (rule 2).
            CallError::NotApplied { reason: gone().debug, retry_after: Duration::from_millis(50) }
        })?;
        let home: CseIdentity = read.home.identity();
        let tree = served.tree.read();
        let view = View { tree: &tree, history: &*served.history, home: &home };
        let root = view.root().ok_or_else(gone)?;
        let rcn = ResultContent::from_u8(read.rcn).ok_or_else(|| Refusal::bad_request("rcn is not known"))?;
        let (body, next_offset) = match gathered {
            Gathered::Nested(nesting) => {
                let content = nesting.finish(&root, rcn == ResultContent::AttributesAndChildren);
                (content.body.unwrap_or_default(), content.next_offset)
            }
            Gathered::Listed(listed) => {
                let body = if is_discovery(read)? {
                    result::discovered(&listed.shown, rcn)?
                } else {
                    result::with_references(&root, rcn, &listed.shown)
                };
                (body, listed.next_offset())
            }
        };
        Ok(Done { rsc: Rsc::OK.0, created: None, next_offset, missing, body: body.into() })
    }
}

impl Gathered {
    fn new(read: &Read, filter: &FilterCriteria) -> Self {
        let nested = [ResultContent::AttributesAndChildren as u8, ResultContent::Children as u8].contains(&read.rcn);
        if nested && filter.fu != Some(FilterUsage::Discovery) {
            return Self::Nested(Nesting::new(filter));
        }
        Self::Listed(Listed {
            offset: filter.ofst.unwrap_or(1).max(1),
            limit: filter.lim.map_or(RESULTS_MAX, |l| l as usize).min(RESULTS_MAX),
            passed: 0,
            shown: Vec::new(),
            more: false,
        })
    }

    fn is_enough(&self) -> bool {
        match self {
            Self::Nested(nesting) => nesting.is_full(),
            Self::Listed(listed) => listed.more,
        }
    }

    fn part(&self) -> Part {
        match self {
            Self::Nested(nesting) => {
                let bound = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let room = nesting.room();
                Part::Branch { resources: bound(room.resources), bytes: bound(room.bytes) }
            }
            Self::Listed(_) => Part::References,
        }
    }

    fn add(&mut self, piece: Piece) {
        match (self, piece) {
            (Self::Nested(nesting), Piece::Branch(Some(branch))) => nesting.offer(branch),
            (Self::Listed(listed), Piece::References(more, _)) => listed.add(more),
            _ => {}
        }
    }
}

impl Listed {
    /// How many it takes to know the whole answer.
    fn wanted(&self) -> u32 {
        u32::try_from(self.limit).unwrap_or(u32::MAX).saturating_add(self.offset)
    }

    fn add(&mut self, found: Vec<Reference>) {
        for reference in found {
            if self.passed.saturating_add(1) < self.offset {
                self.passed += 1;
            } else if self.shown.len() < self.limit {
                self.shown.push(reference);
            } else {
                self.more = true;
                return;
            }
        }
    }

    fn next_offset(&self) -> Option<u32> {
        let shown = u32::try_from(self.shown.len()).unwrap_or(u32::MAX);
        self.more.then(|| self.offset.saturating_add(shown))
    }
}

/// The same criteria from an offset on.
fn at_offset(filter: &FilterCriteria, offset: u32) -> String {
    FilterCriteria { ofst: Some(offset), ..filter.clone() }.to_json()
}

fn is_discovery(read: &Read) -> Result<bool, Refusal> {
    let filter = read.filter.as_deref().map(FilterCriteria::from_json).transpose()?;
    Ok(filter.is_some_and(|f| f.fu == Some(FilterUsage::Discovery)))
}

fn gone() -> Refusal {
    Refusal::new(Rsc::TARGET_NOT_REACHABLE, "the context is not served here any more")
}
