//! `token`: join tokens of the cluster.

use api::v1::{CreateTokenRequest, ListTokensRequest, RevokeTokenRequest, Token as Told};
use clap::{Args, Subcommand};
use dashboard::times;
use machine::config::Duration;
use serde_json::{Value, json};

use super::QUICK;
use super::machines::{Role, role_name};
use crate::cli::World;
use crate::failure::Failure;
use crate::output::{Output, Table, write};
use crate::session::Session;

#[derive(Debug, Subcommand)]
pub enum Token {
    Create(Create),
    List(List),
    Revoke(Revoke),
}

/// Make a join token, for cluster.joinToken of the machine that is to join. It is shown only this once
#[derive(Debug, Args)]
pub struct Create {
    /// The only node that may join with it; it takes the place of a machine that has the name
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// What becomes of the machine
    #[arg(long, value_enum, default_value_t = Role::Worker)]
    role: Role,
    /// How long it is valid
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    expires: Duration,
    #[command(flatten)]
    output: Output,
}

/// Show the join tokens, without their secrets
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    output: Output,
}

/// Have no machine join with a token any more; those that have joined stay
#[derive(Debug, Args)]
pub struct Revoke {
    /// The part before the dot
    id: String,
}

impl Token {
    pub async fn run(self, world: &World) -> Result<(), Failure> {
        match self {
            Token::Create(create) => create.run(world).await,
            Token::List(list) => list.run(world).await,
            Token::Revoke(revoke) => revoke.run(world).await,
        }
    }
}

impl Create {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let valid_for = prost_types::Duration::try_from(self.expires.0);
        let valid_for = Some(valid_for.map_err(|_| Failure::usage("--expires", "too long; expected less than ten years"))?);
        let request = CreateTokenRequest { role: self.role.told().into(), node: self.node.unwrap_or_default(), valid_for };
        let ask = async |session: Session| session.ask(session.cluster().create_token(request.clone())).await;
        let response = world.connection.one(QUICK, ask).await?;
        if self.output.is_table() {
            write(&format!("{}\n", response.token));
            return Ok(());
        }
        let mut shown = value(&response.created.unwrap_or_default());
        if let Value::Object(fields) = &mut shown {
            fields.insert("token".to_owned(), json!(response.token));
        }
        self.output.print(|_| Table::default(), || shown);
        Ok(())
    }
}

impl List {
    async fn run(self, world: &World) -> Result<(), Failure> {
        let ask = async |session: Session| session.ask(session.cluster().list_tokens(ListTokensRequest {})).await;
        let tokens = world.connection.one(QUICK, ask).await?.tokens;
        self.output.print(|_| table(&tokens), || Value::Array(tokens.iter().map(value).collect()));
        Ok(())
    }
}

impl Revoke {
    async fn run(self, world: &World) -> Result<(), Failure> {
        // The secret is nobody's business, and a user may well paste the whole token.
        let id = self.id.split_once('.').map_or(self.id.as_str(), |(id, _)| id);
        let request = RevokeTokenRequest { id: id.to_owned() };
        let ask = async |session: Session| session.ask(session.cluster().revoke_token(request.clone())).await;
        world.connection.one(QUICK, ask).await?;
        if !world.quiet {
            write(&format!("join token {id} is revoked\n"));
        }
        Ok(())
    }
}

fn table(tokens: &[Told]) -> Table {
    let mut table = Table::new(&["ID", "ROLE", "NODE", "EXPIRES", "STATE", "MADE BY"]);
    for token in tokens {
        let state = if token.revoked { "revoked" } else { "valid" };
        let (role, by) = (role_name(token.role()), made_by(token));
        table.row([token.id.as_str(), role, &token.node, &times::shown(token.expires_at.as_ref()), state, by]);
    }
    table
}

fn made_by(token: &Told) -> &str {
    if token.created_by.is_empty() { "machine config" } else { &token.created_by }
}

fn value(token: &Told) -> Value {
    json!({
        "id": token.id,
        "role": role_name(token.role()),
        "node": token.node,
        "expiresAt": times::shown(token.expires_at.as_ref()),
        "revoked": token.revoked,
        "createdBy": token.created_by,
    })
}
