//! A real TLS server: nginx, with a token endpoint that grants to everybody.

use std::fs;
use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::part::Part;
use crate::process::Process;
use crate::{eventually, free_port};

/// A server on a port of the loopback interface, the same after a restart. It
/// ends when dropped.
#[derive(Debug)]
pub struct NginxServer {
    directory: TempDir,
    port: u16,
    process: Option<Process>,
}

impl NginxServer {
    /// Starts one that shows the certificate of that name; absent where the
    /// machine is known to lack nginx.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start(certificates: &Certificates, name: &str) -> Option<Self> {
        if Part::Nginx.is_lacking() {
            return None;
        }
        let mut server = Self {
            directory: TempDir::new().expect("a temporary directory"),
            port: free_port(),
            process: None,
        };
        server.show(certificates, name);
        Some(server)
    }

    /// Starts it again with the certificate of that name.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn show(&mut self, certificates: &Certificates, name: &str) {
        self.process = None;
        let directory = self.directory.path().display();
        let port = self.port;
        let certificate = certificates.file(&format!("{name}.pem"));
        let key = certificates.file(&format!("{name}.key"));
        let config = format!(
            r#"
daemon off;
master_process off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{}}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {};
        ssl_certificate_key {};
        location = /token {{
            default_type application/json;
            add_header Cache-Control no-store;
            add_header Set-Cookie "sid=hunter2; Domain=elsewhere.example";
            return 200 '{{"access_token": "a-$request_id", "token_type": "Bearer", "expires_in": 3600}}';
        }}
    }}
}}
"#,
            certificate.display(),
            key.display()
        );
        let file = self.directory.path().join("nginx.conf");
        fs::write(&file, config).expect("the configuration");
        let program = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"]
            .into_iter()
            .find(|path| std::path::Path::new(path).exists())
            .unwrap_or("nginx");
        self.process = Some(Process::start(
            Command::new(program)
                .arg("-p")
                .arg(self.directory.path())
                .arg("-e")
                .arg(self.directory.path().join("error.log"))
                .arg("-c")
                .arg(&file),
        ));
        eventually("nginx", || TcpStream::connect(("127.0.0.1", port)).ok());
    }

    /// Where tokens are had.
    pub fn token_endpoint(&self) -> String {
        format!("https://127.0.0.1:{}/token", self.port)
    }

    /// How many requests it has answered.
    ///
    /// # Panics
    /// Where it has no log.
    pub fn requests(&self) -> usize {
        let log = fs::read_to_string(self.directory.path().join("access.log"));
        log.expect("the log of nginx").lines().count()
    }
}
