//! A whole platform: composed from what one machine has, with an app of one service. It deploys, says where the app is
//! reached, and stops everything again. Needs `python3`.

use paas::local::{LocalConfig, LocalMachine};
use paas::model::{AppSpec, Principal, ServiceSpec, TenantName};

fn main() -> std::process::ExitCode {
    paas::local::main(|| async {
        let dir = std::env::temp_dir().join(format!("paas-hello-{}", std::process::id()));
        let machine =
            LocalMachine::open(LocalConfig::new(&dir).with_public(([127, 0, 0, 1], 0).into())).await?;
        let platform = machine.builder().build().await?;
        let tenant = platform.ensure_tenant(&Principal::operator("ops"), TenantName::new("acme")?).await?;

        let mut web = ServiceSpec::run(["python3", "-m", "http.server", "--bind", "127.0.0.1", "$PORT"])?;
        web.port = Some(8000);
        web.replicas = 2;
        web.domain.push("hello.localhost".parse()?);
        let app = AppSpec::new("hello")?.with_service("web", &web)?;

        let done = platform.deploy(&Principal::user("ann", tenant.id), &app).await?.finished().await;
        let port = machine.public_address().port();
        #[expect(clippy::print_stdout, reason = "an example talks")]
        if let Ok(operation) = &done {
            println!("{}: http://hello.localhost:{port}/ answered; stopping it again", operation.kind);
        }
        platform.shutdown().await;
        machine.shutdown(true).await?;
        drop(machine);
        let _ = std::fs::remove_dir_all(dir);
        done.map(drop)
    })
}
