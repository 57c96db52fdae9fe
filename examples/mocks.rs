//! A company's own code, tested twice: on memory backends, which behave, and on mocks, which say what they are told to.
#![expect(clippy::print_stdout, reason = "an example talks")]

use std::sync::Arc;

use paas::memory::MemorySecretStore;
use paas::model::{Resource, Scope, Secret, SecretName, TenantId};
use paas::port::SecretStore;
use paas::{Error, ErrorKind, Result};

/// The company's code: a password that is made once, whoever asks first.
async fn ensure_password(
    secrets: &dyn SecretStore,
    scope: &Scope,
    tenant: &TenantId,
    name: &SecretName,
) -> Result<Secret> {
    let known = secrets.list(scope, tenant).await?;
    if let Some((_, version)) = known.into_iter().find(|(known, _)| known == name) {
        return secrets.get(scope, tenant, name, version).await;
    }
    let made = Secret::new("correct horse battery staple")?;
    secrets.put(scope, tenant, name, made.clone()).await?;
    Ok(made)
}

fn somewhere() -> Result<(TenantId, SecretName, Scope)> {
    let tenant = TenantId::new("acme")?;
    let scope = Scope::testing(Resource::Tenant(tenant.clone()));
    Ok((tenant, SecretName::new("DB_PASSWORD")?, scope))
}

/// On a memory backend: what is put can be got.
async fn on_memory() -> Result<()> {
    let (tenant, name, scope) = somewhere()?;
    let secrets: Arc<dyn SecretStore> = Arc::new(MemorySecretStore::new());
    let first = ensure_password(&*secrets, &scope, &tenant, &name).await?;
    let second = ensure_password(&*secrets, &scope, &tenant, &name).await?;
    assert_eq!(first, second);
    Ok(())
}

/// On a mock: what happens when the store is down cannot be had from one that works.
async fn on_a_mock() -> Result<()> {
    let (tenant, name, scope) = somewhere()?;
    let mut secrets = paas::port::MockSecretStore::new();
    secrets.expect_list().once().returning(|_, _| Err(Error::unavailable("the store is down")));
    secrets.expect_put().never();
    let error = ensure_password(&secrets, &scope, &tenant, &name).await.err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::Unavailable));
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    on_memory().await?;
    on_a_mock().await?;
    println!("the same code on a memory backend and on a mock");
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn a_password_is_made_once() {
        super::on_memory().await.unwrap();
    }

    #[tokio::test]
    async fn nothing_is_made_while_the_store_is_down() {
        super::on_a_mock().await.unwrap();
    }
}
