//! What an answer of a metadata service means, as far as all of them agree.

use http::StatusCode;
use http::header::LOCATION;
use hyper::body::Bytes;

use super::fetch::Answer;

#[derive(Debug, thiserror::Error)]
pub enum BadAnswer {
    #[error("it answers {0}; expected 200 OK")]
    Status(StatusCode),
    #[error("it answers {status}, a redirect to {to:?}, which is not followed; name the final URL")]
    Redirect { status: StatusCode, to: String },
    #[error("its answer has no header {0}: another service answers at this address")]
    Header(&'static str),
    #[error("its answer is no {0}")]
    Form(&'static str),
}

/// The body of a good answer; `None` where it says that there is nothing.
pub fn content(answer: Answer) -> Result<Option<Bytes>, BadAnswer> {
    match answer.status {
        StatusCode::OK => Ok(Some(answer.body)),
        StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Ok(None),
        status if status.is_redirection() => {
            let to = answer.headers.get(LOCATION).map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned()).unwrap_or_default();
            Err(BadAnswer::Redirect { status, to })
        }
        status => Err(BadAnswer::Status(status)),
    }
}
