//! What the environment says of the machine.

use anyhow::Result;
use stasis_client::Target;

use crate::report::mistyped;

/// The variable that says where the machine's channel is.
pub(super) const TO: &str = "STASIS_TO";

/// Returns where the environment says that the machine's channel is; `None` if it does not, or is
/// empty.
///
/// # Errors
///
/// The environment's target is mistyped.
pub(crate) fn target() -> Result<Option<Target>> {
    let Some(given) = std::env::var(TO).ok().filter(|given| !given.is_empty()) else {
        return Ok(None);
    };
    let wrong = |why| mistyped(format!("the environment's {TO}=\"{given}\": {why}"));
    given.parse().map(Some).map_err(wrong)
}
