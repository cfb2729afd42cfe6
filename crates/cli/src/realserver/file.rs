//! The options of `up` in a file, for `pointsman-realserver.service`.
//!
//! ```toml
//! mode = "tun"
//! vip = ["192.0.2.100"]
//! director = ["198.51.100.1", "198.51.100.2"]
//! ```

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::Wish;

/// Where it is looked for.
pub const DEFAULT: &str = "/etc/pointsman/realserver.toml";

/// Reads it. The error names line and column, and what was expected there.
pub fn read(path: &Path) -> Result<Wish> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Wish> {
    toml::from_str(text).map_err(|error| anyhow!("{}", error.to_string().trim_end()))
}

/// Addresses, or networks of them, as text.
pub mod networks {
    use ipnet::IpNet;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer, de};

    /// As a list of texts.
    pub fn serialize<S: Serializer>(networks: &[IpNet], to: S) -> Result<S::Ok, S::Error> {
        networks.serialize(to)
    }

    /// From a list of texts.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpNet>, D::Error> {
        Vec::<String>::deserialize(from)?
            .iter()
            .map(|text| super::super::address_or_network(text).map_err(de::Error::custom))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Arp, Mode};
    use super::*;

    #[test]
    fn a_file_says_what_the_options_say() {
        let wish = parse(
            "mode = 'tun'\nvip = ['192.0.2.100', '2001:db8::100']\narp = 'nft'\n\
             director = ['198.51.100.1', '198.51.100.64/26']\ngue-port = [6080]\nmss = 1400\n",
        )
        .unwrap();
        let networks = ["198.51.100.1/32", "198.51.100.64/26"].map(|net| net.parse().unwrap());
        assert_eq!(
            (wish.mode, wish.arp, wish.mss),
            (Mode::Tun, Arp::Nft, Some(1400))
        );
        assert_eq!(wish.director, networks);
        assert_eq!((wish.vip.len(), wish.gue_port), (2, vec![6080]));
        assert_eq!(parse("").unwrap(), Wish::default());
    }

    #[test]
    fn a_mistake_is_named_with_its_place() {
        let cases = [
            ("mode = 'dr'\nvipp = []\n", "line 2", "vipp"),
            ("mode = 'direct'\n", "line 1", "fullnat"),
            ("vip = ['192.0.2.256']\n", "line 1", "IP address"),
            ("director = ['x']\n", "line 1", "10.0.0.0/24"),
            ("mode = dr\n", "line 1", "column"),
        ];
        for (text, place, word) in cases {
            let error = parse(text).unwrap_err().to_string();
            assert!(
                error.contains(place) && error.contains(word),
                "{text}: {error}"
            );
        }
    }
}
