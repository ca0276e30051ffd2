//! Reading m2m:setOfAcrs (TS-0004 6.3.5.27-28). A condition that we cannot evaluate is refused instead of passed over:
//! leaving it out would grant more than was meant.

use super::Operations;
use super::ip::IpRange;
use super::rules::{Context, ObjectDetails, Rule, Rules};
use crate::json;
use crate::limits::RULES_MAX;
use crate::params::{bad, boolean, number, texts};
use crate::rsc::Refusal;
use crate::schedule::ScheduleEntry;
use crate::tables::Ty;

impl Rules {
    /// Reads the JSON of `pv` or `pvs` (`{"acr":[...]}`).
    pub fn from_json(text: &str) -> Result<Self, Refusal> {
        let text = json::text(text.as_bytes())?;
        let mut rules = Vec::new();
        for (name, value) in json::object(text)? {
            if name != "acr" {
                return Err(unknown(&name));
            }
            for item in json::array(value)? {
                if rules.len() == RULES_MAX {
                    return Err(bad("acr", "too many rules"));
                }
                rules.push(rule(item)?);
            }
        }
        Ok(Self(rules))
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::not_implemented(format!("access control rule: {name}"))
}

fn rule(text: &str) -> Result<Rule, Refusal> {
    let (mut originators, mut operations) = (None, None);
    let (mut contexts, mut objects, mut authenticated) = (Vec::new(), Vec::new(), false);
    for (name, value) in json::object(text)? {
        match &*name {
            "acor" => originators = Some(texts("acor", value)?.into_iter().map(String::into).collect()),
            "acop" => operations = Some(Operations(number("acop", value)?)),
            "acco" => contexts = json::array(value)?.into_iter().map(context).collect::<Result<_, _>>()?,
            "acod" => objects = json::array(value)?.into_iter().map(object_details).collect::<Result<_, _>>()?,
            "acaf" => authenticated = boolean("acaf", value)?,
            _ => return Err(unknown(&name)),
        }
    }
    let originators = originators.ok_or_else(|| bad("acor", "is mandatory"))?;
    let operations = operations.ok_or_else(|| bad("acop", "is mandatory"))?;
    if !Operations::ALL.contains(operations) {
        return Err(bad("acop", "more than the six operations"));
    }
    Ok(Rule { originators, operations, contexts, objects, authenticated })
}

fn context(text: &str) -> Result<Context, Refusal> {
    let mut context = Context::default();
    for (name, value) in json::object(text)? {
        match &*name {
            "actw" => {
                for entry in texts("actw", value)? {
                    let window = ScheduleEntry::parse(&entry).ok_or_else(|| bad("actw", "no schedule entry"))?;
                    context.windows.push(window);
                }
            }
            "acip" => context.ranges = Some(ranges(value)?),
            "aclr" => context.location = true,
            _ => return Err(unknown(&name)),
        }
    }
    Ok(context)
}

fn ranges(text: &str) -> Result<Vec<IpRange>, Refusal> {
    let mut ranges = Vec::new();
    for (name, value) in json::object(text)? {
        let v6 = match &*name {
            "ipv4" => false,
            "ipv6" => true,
            _ => return Err(unknown(&name)),
        };
        for range in texts(&name, value)? {
            ranges.push(IpRange::parse(&range, v6).ok_or_else(|| bad(&name, "no address or range"))?);
        }
    }
    Ok(ranges)
}

fn object_details(item: &str) -> Result<ObjectDetails, Refusal> {
    let mut details = ObjectDetails { target: None, children: Vec::new(), specialised: false };
    let ty = |name: &str, value| number(name, value).map(Ty);
    for (name, value) in json::object(item)? {
        match &*name {
            "ty" => details.target = Some(ty("ty", value)?),
            "chty" => {
                details.children = json::array(value)?.into_iter().map(|v| ty("chty", v)).collect::<Result<_, _>>()?;
            }
            "spty" => details.specialised = true,
            _ => return Err(unknown(&name)),
        }
    }
    Ok(details)
}
