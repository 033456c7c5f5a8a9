//! `highwater health`: asks a broker's admin endpoint whether it is ready. For health checks of
//! containers, whose image has no other HTTP client.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use highwater_config::{LoadOptions, load};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::args::parse_duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// More than any answer of `/readyz` has.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Arguments of `highwater health`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints what the broker answers. Status 0 if it is ready, 1 if it is not or cannot be reached, 3 if it
does not answer in time. Without --url, the configuration file and the environment tell where the
admin endpoint is, as they tell the broker.

Examples:
  highwater health
  highwater health --url http://127.0.0.1:7180/readyz --timeout 2s")]
pub(crate) struct HealthArgs {
    /// What to ask [default: /readyz of the configured admin endpoint]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    /// The broker's configuration file
    #[arg(short = 'c', long, value_name = "FILE", env = "HIGHWATER_CONFIG")]
    config: Option<PathBuf>,
}

/// Does it.
pub(crate) async fn run(args: &HealthArgs) -> Outcome {
    let target = match &args.url {
        Some(url) => Target::parse(url)?,
        None => Target::configured(args.config.clone())?,
    };
    let answer = tokio::time::timeout(args.timeout, target.get())
        .await
        .map_err(|_| {
            let timeout = humantime::format_duration(args.timeout);
            let message = format!("no answer from {} within {timeout}", target.address);
            Failure::new(Exit::Timeout, "TimedOut", message)
        })??;
    let body = answer.body.trim();
    if answer.status == 200 {
        output::print(format_args!("{body}\n"))?;
        return Ok(Exit::Ok);
    }
    let message = format!("{} answers {}: {body}", target.address, answer.status);
    Err(Failure::new(Exit::Error, "NotReady", message))
}

/// Where to ask, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    /// `host:port`
    address: String,
    path: String,
}

/// What came back.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    body: String,
}

impl Target {
    /// Takes `http://HOST[:PORT][/PATH]` apart.
    fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!(
                "{url:?}: write a URL such as http://127.0.0.1:7180/readyz"
            ))
        };
        let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/readyz"),
        };
        // A line break in the path would begin a header of its own.
        let printable = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if authority.is_empty() || !printable(authority) || !printable(path) {
            return Err(wrong());
        }
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.is_empty() && port.parse::<u16>().is_ok());
        let address = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:80")
        };
        let path = path.to_owned();
        Ok(Self { address, path })
    }

    /// The admin endpoint of the broker that has this configuration.
    fn configured(file: Option<PathBuf>) -> Result<Self, Failure> {
        let loaded = load(&LoadOptions::from_process(file)).map_err(|errors| {
            let faults = crate::config::fault_lines(&errors).join("; ");
            Failure::new(Exit::Error, "invalid_config", faults)
        })?;
        let Some(listen) = loaded.config.admin.listen else {
            let message = "the admin endpoint is off, so there is nobody to ask";
            return Err(Failure::new(Exit::Error, "NoAdminEndpoint", message)
                .hint("set admin.listen, or name another with --url"));
        };
        Ok(Self {
            address: reachable(&listen),
            path: "/readyz".to_owned(),
        })
    }

    /// One request on a connection of its own.
    async fn get(&self) -> Result<Answer, Failure> {
        let failed = |error: std::io::Error| {
            let message = format!("cannot ask {}: {error}", self.address);
            Failure::new(Exit::Error, "ConnectFailed", message)
                .hint("is a broker running there, with its admin endpoint on?")
        };
        let mut stream = TcpStream::connect(&self.address).await.map_err(failed)?;
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.path, self.address
        );
        stream.write_all(request.as_bytes()).await.map_err(failed)?;
        let mut bytes = Vec::new();
        let mut answer = stream.take(ANSWER_BYTES_MAX);
        answer.read_to_end(&mut bytes).await.map_err(failed)?;
        Answer::parse(&String::from_utf8_lossy(&bytes)).ok_or_else(|| {
            let message = format!("{} does not speak HTTP", self.address);
            Failure::new(Exit::Error, "BadAnswer", message)
        })
    }
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        let (head, body) = text.split_once("\r\n\r\n")?;
        let mut words = head.split_ascii_whitespace();
        let version = words.next()?;
        let status = words.next()?.parse().ok()?;
        version.starts_with("HTTP/1.").then(|| Self {
            status,
            body: body.to_owned(),
        })
    }
}

/// An address to connect to where the broker listens on a wildcard.
fn reachable(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some(("0.0.0.0", port)) => format!("127.0.0.1:{port}"),
        Some(("[::]", port)) => format!("[::1]:{port}"),
        _ => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(address: &str, path: &str) -> Target {
        Target {
            address: address.to_owned(),
            path: path.to_owned(),
        }
    }

    #[test]
    fn a_url_is_an_address_and_a_path() {
        for (url, expected) in [
            ("http://h:1/readyz", target("h:1", "/readyz")),
            ("http://h:1", target("h:1", "/readyz")),
            ("http://h/a/b?c", target("h:80", "/a/b?c")),
            ("http://[::1]:7180/x", target("[::1]:7180", "/x")),
            ("http://[::1]/x", target("[::1]:80", "/x")),
        ] {
            assert_eq!(Target::parse(url), Ok(expected), "{url}");
        }
        for url in [
            "",
            "h:1/readyz",
            "https://h/readyz",
            "http:///readyz",
            "http://h:1/a b",
            "http://h:1/\r\nx: y",
        ] {
            assert!(Target::parse(url).is_err(), "{url:?}");
        }
    }

    #[test]
    fn a_wildcard_is_asked_on_the_loopback() {
        assert_eq!(reachable("0.0.0.0:7180"), "127.0.0.1:7180");
        assert_eq!(reachable("[::]:7180"), "[::1]:7180");
        assert_eq!(reachable("10.0.0.1:7180"), "10.0.0.1:7180");
    }

    #[test]
    fn answers_are_taken_apart_and_nonsense_is_refused() {
        let answer = Answer::parse("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\n{}");
        let expected = Answer {
            status: 503,
            body: "{}".to_owned(),
        };
        assert_eq!(answer, Some(expected));
        for text in [
            "",
            "HTTP/1.1 200 OK",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 x\r\n\r\n",
        ] {
            assert_eq!(Answer::parse(text), None, "{text:?}");
        }
    }
}
