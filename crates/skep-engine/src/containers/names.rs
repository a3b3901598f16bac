//! Names for containers that were given none.

use skep_types::ContainerName;

const QUALITIES: [&str; 48] = [
    "amber", "brave", "bright", "brisk", "busy", "calm", "clever", "cosy", "dapper", "deft", "eager", "early", "fair",
    "fleet", "fond", "gentle", "glad", "golden", "hardy", "hazel", "honest", "humble", "jolly", "keen", "kind",
    "lively", "lucid", "mellow", "merry", "mild", "neat", "nimble", "placid", "plucky", "proud", "quick", "quiet",
    "rapid", "ready", "serene", "sharp", "silent", "smart", "steady", "sunny", "swift", "tidy", "warm",
];
const THINGS: [&str; 48] = [
    "acorn",
    "aster",
    "bee",
    "birch",
    "bloom",
    "brook",
    "cedar",
    "clover",
    "comb",
    "crocus",
    "daisy",
    "dandelion",
    "drone",
    "elder",
    "fern",
    "finch",
    "foxglove",
    "hazelnut",
    "heather",
    "hive",
    "hollow",
    "honey",
    "iris",
    "ivy",
    "larch",
    "lavender",
    "lilac",
    "linden",
    "lupin",
    "maple",
    "meadow",
    "mint",
    "nectar",
    "orchard",
    "pollen",
    "poppy",
    "queen",
    "robin",
    "rowan",
    "sage",
    "sparrow",
    "straw",
    "swarm",
    "thistle",
    "thyme",
    "violet",
    "willow",
    "wren",
];

/// A name made of 32 random bits; from the third `attempt` on with a number behind it, so that a free one is found soon.
pub(super) fn random(bits: u32, attempt: u32) -> ContainerName {
    let pick = |words: &'static [&str; 48], bits: u32| words[(bits % 48) as usize];
    let mut name = format!("{}_{}", pick(&QUALITIES, bits & 0xfff), pick(&THINGS, bits >> 12 & 0xfff));
    if attempt > 2 {
        name.push_str(&(bits >> 24).to_string());
    }
    name.parse().expect("two lower-case words joined by an underscore are a name")
}
