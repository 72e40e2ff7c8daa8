//! Routes with their description: what is served and what `/openapi.json` says come from one list.

use axum::Router;
use axum::handler::Handler;
use axum::routing::{MethodRouter, delete, get, post};
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AllOfBuilder, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    Components, ContentBuilder, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr,
    Required, Response, ResponseBuilder, Schema as ApiSchema,
};
use utoipa::{PartialSchema, ToSchema};

use crate::Api;
use crate::answer::Failure;
use crate::parameters::{Kind, Parameter, Schema, WAIT_HEIGHT};

/// Routes and their description.
pub struct Routes {
    pub(crate) router: Router<Api>,
    paths: Paths,
    schemas: Vec<(String, RefOr<ApiSchema>)>,
}

/// What is said of a route.
pub struct About {
    /// The group that it stands in.
    pub tag: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Its parameters.
    pub schema: &'static Schema,
}

/// The security scheme's name in the document.
const TOKEN: &str = "writeToken";

impl Routes {
    /// None yet.
    pub fn new() -> Self {
        Self { router: Router::new(), paths: Paths::new(), schemas: Vec::new() }
    }

    /// A route that is read; `B` is the form of its answer.
    pub fn get<B: ToSchema, H: Handler<T, Api>, T: 'static>(
        mut self,
        path: &'static str,
        about: About,
        handler: H,
    ) -> Self {
        let operation = self.operation::<B>(path, &about).build();
        self.add(path, HttpMethod::Get, operation, get(handler))
    }

    /// A route that is written to with a body of one of these types.
    pub fn post<B: ToSchema, H: Handler<T, Api>, T: 'static>(
        mut self,
        path: &'static str,
        about: About,
        body_types: &[&str],
        handler: H,
    ) -> Self {
        let any = ObjectBuilder::new().schema_type(SchemaType::AnyValue).build();
        let mut body = RequestBodyBuilder::new().required(Some(Required::True));
        for body_type in body_types {
            body = body.content(*body_type, ContentBuilder::new().schema(Some(any.clone())).build());
        }
        let operation = self.operation::<B>(path, &about).request_body(Some(body.build()));
        let operation = write_answers(operation).build();
        self.add(path, HttpMethod::Post, operation, post(handler))
    }

    /// A route that takes something back.
    pub fn delete<B: ToSchema, H: Handler<T, Api>, T: 'static>(
        mut self,
        path: &'static str,
        about: About,
        handler: H,
    ) -> Self {
        let operation = write_answers(self.operation::<B>(path, &about)).build();
        self.add(path, HttpMethod::Delete, operation, delete(handler))
    }

    fn add(
        mut self,
        path: &'static str,
        method: HttpMethod,
        operation: utoipa::openapi::path::Operation,
        handler: MethodRouter<Api>,
    ) -> Self {
        self.paths.add_path_operation(path, vec![method], operation);
        self.router = self.router.route(path, handler);
        self
    }

    fn operation<B: ToSchema>(&mut self, path: &str, about: &About) -> OperationBuilder {
        self.schemas.push((B::name().into_owned(), B::schema()));
        B::schemas(&mut self.schemas);
        let answer = AllOfBuilder::new()
            .item(
                ObjectBuilder::new()
                    .property("success", ObjectBuilder::new().schema_type(Type::Boolean))
                    .required("success"),
            )
            .item(RefOr::Ref::<ApiSchema>(Ref::from_schema_name(B::name())))
            .build();
        let answer = ApiSchema::AllOf(answer);
        let failure = RefOr::Ref::<ApiSchema>(Ref::from_schema_name(Failure::name()));
        let either = utoipa::openapi::schema::AnyOfBuilder::new().item(answer).item(failure.clone()).build();
        let either = ApiSchema::AnyOf(either);
        let mut operation = OperationBuilder::new()
            .tag(about.tag)
            .summary(Some(about.summary))
            .operation_id(Some(path.trim_matches('/').replace(['/', '{', '}'], "_")))
            .response("200", response("The answer, or a refusal in the family's form", either))
            .response("400", response("The request cannot be read", failure.clone()))
            .response("412", response("The answering tier did not reach the height in time", failure.clone()))
            .response("429", response("Too many requests from this address", failure.clone()))
            .response("503", response("A tier that has to answer is away", failure));
        for one in about.schema.parameters {
            operation = operation.parameter(parameter(one));
        }
        for name in path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(Some(text_schema())),
            );
        }
        operation.parameter(
            ParameterBuilder::new()
                .name(WAIT_HEIGHT)
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some("Wait (not for long) until the answering tier has this height"))
                .schema(Some(integer_schema(Some(0), Some(i64::from(u32::MAX))))),
        )
    }

    /// All of both.
    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.paths.merge(other.paths);
        self.schemas.extend(other.schemas);
        self
    }

    /// The description, OpenAPI 3.1.
    pub fn document(&self) -> OpenApi {
        let mut components = Components::new();
        components.schemas.insert(Failure::name().into_owned(), Failure::schema());
        for (name, schema) in &self.schemas {
            components.schemas.insert(name.clone(), schema.clone());
        }
        let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        components.security_schemes.insert(TOKEN.to_owned(), token.into());
        OpenApiBuilder::new()
            .info(
                InfoBuilder::new()
                    .title("Forebay")
                    .version(env!("CARGO_PKG_VERSION"))
                    .description(Some(
                        "The chain's REST API. Single things come from Redis, lists from PostgreSQL; the headers \
                         x-forebay-tier and x-forebay-height say which, and at which height.",
                    ))
                    .license(Some(LicenseBuilder::new().name("Apache-2.0").build())),
            )
            .paths(self.paths.clone())
            .components(Some(components))
            .build()
    }
}

/// What else a write may be answered with.
fn write_answers(operation: OperationBuilder) -> OperationBuilder {
    let failure = || RefOr::Ref::<ApiSchema>(Ref::from_schema_name(Failure::name()));
    [
        ("401", "The token is missing or wrong"),
        ("403", "Nothing is written here"),
        ("409", "The chain is at another block"),
        ("413", "The body is too large"),
        ("422", "A block breaks a rule; those before it stay accepted"),
    ]
    .into_iter()
    .fold(operation, |operation, (status, about)| operation.response(status, response(about, failure())))
    .security(token_needed())
}

fn token_needed() -> SecurityRequirement {
    SecurityRequirement::new(TOKEN, Vec::<String>::new())
}

fn response(about: &str, schema: impl Into<RefOr<ApiSchema>>) -> Response {
    ResponseBuilder::new()
        .description(about)
        .content("application/json", ContentBuilder::new().schema(Some(schema)).build())
        .build()
}

fn text_schema() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

fn integer_schema(min: Option<i64>, max: Option<i64>) -> ObjectBuilder {
    ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(min)
        .maximum(max)
}

fn parameter(one: &Parameter) -> ParameterBuilder {
    let schema: RefOr<ApiSchema> = match one.kind {
        Kind::Integer(min, max) => integer_schema(min, max).build().into(),
        Kind::Text(min, max) => text_schema().min_length(Some(min)).max_length(Some(max)).build().into(),
        Kind::Id => text_schema().pattern(Some("^[0-9]{1,20}$")).build().into(),
        Kind::Address => text_schema().pattern(Some("^[0-9]{1,20}[A-Za-z]$")).build().into(),
        Kind::Addresses => {
            text_schema().pattern(Some("^[0-9]{1,20}[A-Za-z](,[0-9]{1,20}[A-Za-z])*$")).build().into()
        }
        Kind::PublicKey => text_schema().pattern(Some("^[0-9a-fA-F]{64}$")).build().into(),
        Kind::OneOf(words) => text_schema().enum_values(Some(words.iter().copied())).build().into(),
        Kind::Flag => ObjectBuilder::new().schema_type(Type::Boolean).build().into(),
    };
    ParameterBuilder::new()
        .name(one.name)
        .parameter_in(ParameterIn::Query)
        .required(if one.required { Required::True } else { Required::False })
        .description(Some(one.about))
        .schema(Some(schema))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_schemas_name_stands_for_one_schema() {
        let routes = Api::routes();
        let mut known: BTreeMap<&str, &RefOr<ApiSchema>> = BTreeMap::new();
        for (name, schema) in &routes.schemas {
            let first = known.entry(name).or_insert(schema);
            assert!(*first == schema, "{name}");
        }
    }
}
