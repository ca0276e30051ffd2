//! What handlers of the admin API get out of a request. Whatever cannot be read is refused with an [`AdminError`] like all
//! other refusals: a typo is no order, and no question that was not asked is answered.

use axum::Json;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use super::server::AdminError;

/// The body of an order. An order has no query.
pub(super) struct Order<T>(pub(super) T);

/// The query of a question.
pub(super) struct Asked<T>(pub(super) T);

/// A question without a query.
pub(super) struct NoQuery;

/// The variable part of the path.
pub(super) struct Named<T>(pub(super) T);

fn bad_query(message: impl Into<String>) -> AdminError {
    AdminError::new(400, "admin-bad-query", message, "docs/operations.md lists each path with its query")
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Order<T> {
    type Rejection = AdminError;

    async fn from_request(request: Request, state: &S) -> Result<Self, AdminError> {
        let (mut head, body) = request.into_parts();
        NoQuery::from_request_parts(&mut head, state).await?;
        match Json::from_request(Request::from_parts(head, body), state).await {
            Ok(Json(order)) => Ok(Self(order)),
            Err(e) => Err(AdminError::new(
                e.status().as_u16(),
                "admin-bad-body",
                e.body_text(),
                "nothing was done: docs/operations.md shows the JSON",
            )),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = AdminError;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let query = Query::from_request_parts(head, state).await;
        query.map(|Query(q)| Self(q)).map_err(|e| bad_query(e.body_text()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NoQuery {
    type Rejection = AdminError;

    async fn from_request_parts(head: &mut Parts, _: &S) -> Result<Self, AdminError> {
        match head.uri.query() {
            None | Some("") => Ok(Self),
            Some(_) => Err(bad_query("this path takes no query")),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Named<T> {
    type Rejection = AdminError;

    async fn from_request_parts(head: &mut Parts, state: &S) -> Result<Self, AdminError> {
        let path = Path::from_request_parts(head, state).await;
        path.map(|Path(p)| Self(p)).map_err(|e| bad_query(e.body_text()))
    }
}
