//! Talking with a registry
//! ([distribution specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md)).
//!
//! ```text
//!   which scheme?  loopback: http, then https       tls_verify=false: https unverified, then http
//!                  else: https
//!   GET /v2/…/manifests/TAG ──401 WWW-Authenticate──> GET realm?service&scope ──token──> again
//!   GET /v2/…/blobs/DIGEST  ──broken──> again with Range: bytes=OFFSET-   (TRIES times in a row at most)
//! ```
//!
//! **Invariants.** Every manifest is compared with the digest it was asked for by, if any; blobs are compared by who
//! reads them. Credentials go to the registry and to the token server it names, over TLS if the registry is
//! reached over TLS; never along a redirect to another host.

use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig};
use ureq::{Agent, Body, BodyReader, RequestBuilder};

use crate::access::Access;
use crate::auth::Credentials;
use crate::digest::Digest;
use crate::error::{ImageError, Result, plain};
use crate::manifest::{self, Descriptor};
use crate::reference::Version;
use crate::registries::{Location, Machine};

/// How long to wait for a name, for a connection, for the beginning of an answer, and for more of it.
const RESOLVE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(60);

/// How long an unverified registry may take to show whether it speaks TLS: a plain HTTP server may wait for the
/// end of a line that a TLS greeting does not have.
const GREETING: Duration = Duration::from_secs(3);

/// How often one blob may break off without [`GAIN`] bytes between.
const TRIES: u32 = 5;

/// So many bytes are worth another connection: a download through a bad line ends, one that gets nowhere too.
const GAIN: u64 = 256 * 1024;

/// So many pages of a list are read, of 1,000 entries each.
const PAGES_MAX: usize = 100;

/// The longest answer of a token server, and error message of a registry.
pub(crate) const SMALL: u64 = 1 << 20;

/// What is to be done at a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Pull,
    Push,
    /// To show who we are, or to look around: nothing is asked of a repository.
    Visit,
}

impl Purpose {
    /// What a token server is asked for.
    fn actions(self) -> Option<&'static str> {
        match self {
            Self::Pull => Some("pull"),
            Self::Push => Some("pull,push"),
            Self::Visit => None,
        }
    }
}

/// A repository at a registry (or the registry alone), with the right to use it.
pub(crate) struct Client {
    agent: Agent,
    /// `https://registry-1.docker.io`
    origin: String,
    /// `docker.io`
    registry: String,
    /// `library/alpine`; empty for a visit.
    repository: String,
    purpose: Purpose,
    credentials: Option<Credentials>,
    /// The value of the `Authorization` header, once one was asked for.
    authorization: Mutex<Option<String>>,
    /// Was the certificate checked? For hints in messages.
    verified: bool,
}

/// A manifest as it came.
pub(crate) struct Raw {
    pub(crate) bytes: Vec<u8>,
    pub(crate) media_type: Option<String>,
    pub(crate) digest: Digest,
}

impl Client {
    /// Finds out how to talk to the registry of `location`, as far as `access` allows it.
    pub(crate) fn connect(location: &Location, purpose: Purpose, access: &Access, machine: &Machine) -> Result<Self> {
        let reference = &location.reference;
        let credentials = access.credentials_for(machine, &reference.name())?;
        let repository = reference.repository();
        Self::open(reference.registry(), repository, location.insecure, purpose, credentials, access, machine)
    }

    /// The registry itself.
    pub(crate) fn visit(
        registry: &str,
        insecure: bool,
        credentials: Option<Credentials>,
        access: &Access,
        machine: &Machine,
    ) -> Result<Self> {
        Self::open(registry, "", insecure, Purpose::Visit, credentials, access, machine)
    }

    fn open(
        registry: &str,
        repository: &str,
        insecure: bool,
        purpose: Purpose,
        credentials: Option<Credentials>,
        access: &Access,
        machine: &Machine,
    ) -> Result<Self> {
        let host = host_of(registry).to_owned();
        // What was typed counts more than what registries.conf says.
        let insecure = access.tls_verify.map_or(insecure, |verify| !verify);
        let loopback = is_loopback(&host) && access.tls_verify != Some(true);
        let verified = !insecure && !loopback;
        let agent = agent(&host, machine, access, verified)?;
        let client = |scheme: &str| Self {
            agent: agent.clone(),
            origin: format!("{scheme}://{host}"),
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            purpose,
            credentials: credentials.clone(),
            authorization: Mutex::new(None),
            verified,
        };
        // A secure registry is asked for what is wanted at once: no round trip to find out what is known.
        let order = match (verified, loopback) {
            (true, _) => return Ok(client("https")),
            (false, true) => ["http", "https"],
            (false, false) => ["https", "http"],
        };
        let first = client(order[0]);
        let Err(error) = first.greet() else { return Ok(first) };
        let second = client(order[1]);
        match second.greet() {
            Ok(()) => Ok(second),
            // The way that was to be expected is the one to tell about.
            Err(_) => Err(error),
        }
    }

    /// `docker.io/library/alpine`
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The manifest or index of a version.
    pub(crate) fn manifest(&self, version: &Version) -> Result<Raw> {
        let (name, what) = match version {
            Version::Tag(tag) => (tag.as_str(), tag.clone()),
            Version::Digest(digest) => (digest.as_str(), digest.to_string()),
        };
        let what = format!("reading manifest {what} in {}", self.name());
        let response = self.get(&format!("/manifests/{name}"), manifest::ACCEPT, None)?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response, "manifest unknown").within(&what));
        }
        let media_type = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.map(|value| value.split(';').next().unwrap_or(value).trim().to_owned());
        let bytes = self.all(response.into_body(), manifest::MANIFEST_MAX).map_err(|e| e.within(&what))?;
        let digest = match version {
            Version::Digest(wanted) if !wanted.fits(&bytes) => {
                let text = format!("{what}: digest mismatch: it came as {}", Digest::of(&bytes));
                return Err(ImageError::Content(text));
            }
            Version::Digest(wanted) => wanted.clone(),
            Version::Tag(_) => Digest::of(&bytes),
        };
        Ok(Raw { bytes, media_type, digest })
    }

    /// A small blob, such as a configuration, checked.
    pub(crate) fn small_blob(&self, descriptor: &Descriptor, most: u64) -> Result<Vec<u8>> {
        let what = format!("reading config {} in {}", descriptor.digest, self.name());
        if descriptor.size > most {
            return Err(ImageError::Content(format!("{what}: {} bytes are more than {most}", descriptor.size)));
        }
        let mut bytes = Vec::new();
        self.blob(&descriptor.digest, descriptor.size).read_to_end(&mut bytes).map_err(crate::layer::read_error)?;
        match descriptor.digest.fits(&bytes) {
            true => Ok(bytes),
            false => Err(ImageError::Content(format!("{what}: digest mismatch: it came as {}", Digest::of(&bytes)))),
        }
    }

    /// All tags of the repository, in the registry's order.
    pub(crate) fn tags(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            tags: Option<Vec<String>>,
        }
        let what = format!("getting repository tags of {}", self.name());
        self.pages(self.url("/tags/list?n=1000"), |page: Page| page.tags.unwrap_or_default())
            .map_err(|e| e.within(&what))
    }

    /// Repositories of the registry, as far as it tells.
    pub(crate) fn catalog(&self) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            #[serde(default)]
            repositories: Option<Vec<String>>,
        }
        self.pages(format!("{}/v2/_catalog?n=1000", self.origin), |page: Page| page.repositories.unwrap_or_default())
    }

    /// A list that comes in pages (`Link: <…>; rel="next"`, RFC 8288).
    fn pages<P: for<'a> Deserialize<'a>>(
        &self,
        mut url: String,
        take: impl Fn(P) -> Vec<String>,
    ) -> Result<Vec<String>> {
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let response = self.ask(&|right| authorized(self.agent.get(&url), right).call())?;
            if response.status() != StatusCode::OK {
                return Err(refusal(response, "not found"));
            }
            let next = next_page(response.headers(), &self.origin);
            let bytes = self.all(response.into_body(), manifest::MANIFEST_MAX)?;
            let page = serde_json::from_slice(&bytes)
                .map_err(|_| ImageError::Content("the registry's list is not valid JSON".to_owned()))?;
            all.extend(take(page));
            match next {
                Some(next) => url = next,
                None => break,
            }
        }
        Ok(all)
    }

    /// A blob to be read once. Its digest is the reader's to check.
    pub(crate) fn blob(&self, digest: &Digest, size: u64) -> BlobReader<'_> {
        BlobReader { client: self, digest: digest.clone(), size, offset: 0, body: None, failures: 0, failed_at: 0 }
    }

    /// Is there a registry?
    fn greet(&self) -> Result<()> {
        let url = format!("{}/v2/", self.origin);
        let config = self.agent.get(&url).config().timeout_connect(Some(CONNECT));
        let sent = config.timeout_recv_response(Some(GREETING)).timeout_per_read(Some(GREETING)).build().call();
        let response = sent.map_err(|e| self.unreachable(&e))?;
        match response.status() {
            // 400: a TLS server that was greeted in plain HTTP (nginx, Go).
            StatusCode::BAD_REQUEST => Err(self.broken("client sent an HTTP request to an HTTPS server", false)),
            _ => Ok(()),
        }
    }

    /// Asks for something below the repository.
    fn get(&self, path: &str, accept: &str, from: Option<u64>) -> Result<Response<Body>> {
        let url = self.url(path);
        self.ask(&|right| {
            let mut request = authorized(self.agent.get(&url).header(header::ACCEPT, accept), right);
            if let Some(from) = from {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            request.call()
        })
    }

    /// The address of something below the repository: `/manifests/latest`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/v2/{}{path}", self.origin, self.repository)
    }

    /// Asks, with the right to if that is asked for.
    pub(crate) fn ask(&self, send: &Send<'_>) -> Result<Response<Body>> {
        let had = self.authorization.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let response = send(had.as_deref()).map_err(|e| self.unreachable(&e))?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // Without a right, or with one that has run out meanwhile.
        let Some(now) = self.authorize(&response)?.filter(|now| had.as_ref() != Some(now)) else { return Ok(response) };
        *self.authorization.lock().unwrap_or_else(|e| e.into_inner()) = Some(now.clone());
        send(Some(&now)).map_err(|e| self.unreachable(&e))
    }

    pub(crate) fn agent(&self) -> &Agent {
        &self.agent
    }

    /// Where the registry is: `https://quay.io`.
    pub(crate) fn origin(&self) -> &str {
        &self.origin
    }

    /// What the registry wants to see, if we have it: the value of an `Authorization` header.
    fn authorize(&self, response: &Response<Body>) -> Result<Option<String>> {
        let values = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<Challenge> = values.iter().filter_map(|v| v.to_str().ok()).flat_map(challenges).collect();
        if let Some(bearer) = challenges.iter().find(|c| c.scheme == "bearer") {
            return self.token(bearer).map(|token| Some(format!("Bearer {token}")));
        }
        let basic = challenges.iter().any(|c| c.scheme == "basic");
        Ok(self.credentials.as_ref().filter(|_| basic).and_then(Credentials::basic))
    }

    /// Asks the token server that the registry named
    /// ([token authentication](https://distribution.github.io/distribution/spec/auth/token/)).
    fn token(&self, bearer: &Challenge) -> Result<String> {
        let realm = bearer.get("realm").unwrap_or_default();
        let what = format!("asking {realm:?} for the right to use {}", self.name().trim_end_matches('/'));
        let secret =
            self.credentials.as_ref().filter(|_| realm.starts_with("https://") || self.origin.starts_with("http://"));
        let scope = self.purpose.actions().map(|actions| format!("repository:{}:{actions}", self.repository));
        let service = bearer.get("service").unwrap_or_default();
        let sent = match secret {
            Some(Credentials::IdentityToken(token)) => {
                let mut form = vec![("grant_type", "refresh_token"), ("service", service), ("client_id", "podwire")];
                form.extend(scope.as_deref().map(|scope| ("scope", scope)));
                form.push(("refresh_token", token));
                self.agent.post(realm).send_form(form)
            }
            other => {
                let mut request = self.agent.get(realm).query("service", service);
                if let Some(scope) = &scope {
                    request = request.query("scope", scope);
                }
                authorized(request, other.and_then(Credentials::basic).as_deref()).call()
            }
        };
        let response = sent.map_err(|e| self.broken(&reason(&e), true).within(&what))?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response, "unauthorized").within(&what));
        }
        let bytes = self.all(response.into_body(), SMALL).map_err(|e| e.within(&what))?;
        token_in(&bytes).map_err(|why| ImageError::Content(format!("{what}: {why}")))
    }

    pub(crate) fn all(&self, body: Body, most: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = body.into_with_config().limit(most).reader().read_to_end(&mut bytes);
        match read {
            Ok(_) => Ok(bytes),
            Err(error) => Err(self.broken(&reason(&error.into()), true)),
        }
    }

    /// The registry could not be reached at all.
    fn unreachable(&self, error: &ureq::Error) -> ImageError {
        let Self { origin, registry, .. } = self;
        let hint = match (is_certificate(error), self.verified) {
            (true, true) => "; if you trust this registry all the same, use --tls-verify=false",
            _ => "",
        };
        let text = format!("pinging container registry {registry}: Get \"{origin}/v2/\": {}{hint}", reason(error));
        ImageError::Registry { message: text, transient: is_transient(error) }
    }

    pub(crate) fn broken(&self, why: &str, transient: bool) -> ImageError {
        ImageError::Registry { message: why.to_owned(), transient }
    }
}

/// Sends a request, given the value of its `Authorization` header.
pub(crate) type Send<'a> = dyn Fn(Option<&str>) -> Result<Response<Body>, ureq::Error> + 'a;

/// The request with the right to it.
pub(crate) fn authorized<B>(request: RequestBuilder<B>, right: Option<&str>) -> RequestBuilder<B> {
    match right {
        Some(right) => request.header(header::AUTHORIZATION, right),
        None => request,
    }
}

/// What a token server answers (JSON): the right to go on, as it can stand in a header.
pub(crate) fn token_in(answer: &[u8]) -> Result<String, &'static str> {
    let token: Token = serde_json::from_slice(answer).map_err(|_| "the answer is not a token")?;
    let token = token.token.or(token.access_token).filter(|token| token.bytes().all(|b| b.is_ascii_graphic()));
    token.ok_or("the answer has no token")
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// A blob coming in; goes on where it broke off.
pub(crate) struct BlobReader<'a> {
    client: &'a Client,
    digest: Digest,
    size: u64,
    offset: u64,
    body: Option<BodyReader<'static>>,
    failures: u32,
    /// Where it broke off last.
    failed_at: u64,
}

impl BlobReader<'_> {
    fn open(&self) -> Result<BodyReader<'static>> {
        let from = (self.offset > 0).then_some(self.offset);
        let response = self.client.get(&format!("/blobs/{}", self.digest), "*/*", from)?;
        match response.status() {
            StatusCode::OK => {
                let mut body = response.into_body().into_reader();
                // The server does not know ranges: what we have is read once more, and dropped.
                let skipped = io::copy(&mut (&mut body).take(self.offset), &mut io::sink());
                match skipped {
                    Ok(n) if n == self.offset => Ok(body),
                    _ => Err(self.client.broken("the connection broke off again", true)),
                }
            }
            StatusCode::PARTIAL_CONTENT if continues(response.headers(), self.offset) => {
                Ok(response.into_body().into_reader())
            }
            StatusCode::PARTIAL_CONTENT => {
                Err(self.client.broken("the registry sent another part than asked for", false))
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                let text = format!("the registry has only {} of {} bytes", self.offset, self.size);
                Err(self.client.broken(&text, false))
            }
            _ => Err(refusal(response, "blob unknown to registry")),
        }
    }

    /// Counts a failure: the error when it was one too many or will not get better.
    fn failed(&mut self, error: ImageError) -> io::Result<()> {
        self.body = None;
        if self.offset - self.failed_at >= GAIN {
            self.failures = 0;
        }
        self.failures += 1;
        self.failed_at = self.offset;
        let transient = matches!(error, ImageError::Registry { transient: true, .. });
        if !transient || self.failures >= TRIES {
            let what = format!("reading blob {} in {}", self.digest, self.client.name());
            return Err(io::Error::other(error.within(&what)));
        }
        tracing::info!(digest = %self.digest, offset = self.offset, %error, "going on where the download broke off");
        // A server that is being restarted needs a moment.
        std::thread::sleep(Duration::from_millis(100 << self.failures));
        Ok(())
    }
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let left = usize::try_from(self.size - self.offset).unwrap_or(usize::MAX);
            let room = buffer.len().min(left);
            if room == 0 {
                return Ok(0);
            }
            if self.body.is_none() {
                match self.open() {
                    Ok(body) => self.body = Some(body),
                    Err(error) => {
                        self.failed(error)?;
                        continue;
                    }
                }
            }
            let Some(body) = &mut self.body else { continue };
            match body.read(&mut buffer[..room]) {
                Ok(0) => {
                    let text = format!("the connection ended after {} of {} bytes", self.offset, self.size);
                    self.failed(self.client.broken(&text, true))?;
                }
                Ok(n) => {
                    self.offset += n as u64;
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.failed(self.client.broken(&reason(&error.into()), true))?,
            }
        }
    }
}

/// Where a list goes on: nowhere else than at the same registry.
pub(crate) fn next_page(headers: &HeaderMap, origin: &str) -> Option<String> {
    let links = headers.get(header::LINK)?.to_str().ok()?;
    let next = links.split(',').find(|link| link.contains("rel=\"next\"") || link.contains("rel=next"))?;
    let place = next.trim().strip_prefix('<')?.split_once('>')?.0;
    let url = if place.starts_with('/') { format!("{origin}{place}") } else { place.to_owned() };
    url.starts_with(&format!("{origin}/")).then_some(url)
}

/// Does a partial answer begin at `offset`?
pub(crate) fn continues(headers: &HeaderMap, offset: u64) -> bool {
    let range = headers.get(header::CONTENT_RANGE).and_then(|value| value.to_str().ok());
    let begin = range.and_then(|range| range.strip_prefix("bytes ")).and_then(|range| range.split('-').next());
    begin.and_then(|begin| begin.trim().parse::<u64>().ok()) == Some(offset)
}

/// The host that serves a registry's API.
fn host_of(registry: &str) -> &str {
    // Docker Hub's images are named after a web site that is not the registry.
    if registry == "docker.io" { "registry-1.docker.io" } else { registry }
}

/// `localhost`, 127.0.0.0/8 or ::1, with or without a port.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn agent(host: &str, machine: &Machine, access: &Access, verified: bool) -> Result<Agent> {
    let mut tls = TlsConfig::builder().disable_verification(!verified);
    let own = Own::read(host, machine, access)?;
    if verified && let Some(roots) = roots(machine, own.authorities) {
        tls = tls.root_certs(roots);
    }
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("podwire/", env!("CARGO_PKG_VERSION")))
        .tls_config(tls.client_cert(own.client).build())
        .redirect_auth_headers(ureq::config::RedirectAuthHeaders::SameHost)
        .timeout_resolve(Some(RESOLVE))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(ANSWER))
        .timeout_per_read(Some(SILENCE));
    if is_loopback(host) {
        // HTTP_PROXY and the like are for the outside, as in Go and curl.
        config = config.proxy(None);
    }
    Ok(config.build().new_agent())
}

/// The certificates to trust: the system's and the registry's own. `None`: those built in.
fn roots(machine: &Machine, own: Vec<Certificate<'static>>) -> Option<RootCerts> {
    let bundle = machine.certificates.iter().find_map(|path| std::fs::read(path).ok());
    let mut certificates = bundle.iter().flat_map(|pem| certificates(pem)).collect::<Vec<_>>();
    certificates.extend(own);
    (!certificates.is_empty()).then(|| RootCerts::Specific(Arc::new(certificates)))
}

fn certificates(pem: &[u8]) -> Vec<Certificate<'static>> {
    let items = ureq::tls::parse_pem(pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    items.collect()
}

/// What a registry's own directory of certificates has (containers-certs.d(5)): `*.crt`, whom to trust;
/// `NAME.cert` with `NAME.key`, who we are.
#[derive(Default)]
struct Own {
    authorities: Vec<Certificate<'static>>,
    client: Option<ClientCert>,
}

impl Own {
    fn read(host: &str, machine: &Machine, access: &Access) -> Result<Self> {
        let directories = match &access.cert_dir {
            Some(only) => vec![only.clone()],
            None => machine.certs_d.iter().map(|directory| directory.join(host)).collect(),
        };
        let mut own = Self::default();
        for directory in &directories {
            own.add(directory)?;
        }
        Ok(own)
    }

    fn add(&mut self, directory: &Path) -> Result<()> {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut paths: Vec<_> = entries.collect();
        paths.sort();
        let is = |path: &Path, wanted: &str| path.extension().is_some_and(|extension| extension == wanted);
        let read = |path: &Path| std::fs::read(path).map_err(|e| ImageError::file(path, e));
        for path in &paths {
            if is(path, "crt") {
                self.authorities.extend(certificates(&read(path)?));
            }
            if is(path, "cert") {
                let key = path.with_extension("key");
                let wrong = |what: &str| ImageError::Invalid(format!("{}: {what}", key.display()));
                if !key.exists() {
                    return Err(wrong("missing, though there is a client certificate of this name"));
                }
                let key = PrivateKey::from_pem(&read(&key)?).map_err(|_| wrong("is not a private key in PEM"))?;
                let chain = certificates(&read(path)?);
                self.client.get_or_insert_with(|| ClientCert::new_with_certs(&chain, key));
            }
        }
        Ok(())
    }
}

/// A registry's "no", in one line.
pub(crate) fn refusal(response: Response<Body>, not_found: &str) -> ImageError {
    let status = response.status();
    let mut bytes = Vec::new();
    // An error message that cannot be read is none.
    let _ = response.into_body().into_with_config().limit(SMALL).reader().read_to_end(&mut bytes);
    let said = registry_message(&bytes);
    let message = match (status, said) {
        (StatusCode::NOT_FOUND, _) => not_found.to_owned(),
        (StatusCode::UNAUTHORIZED, Some(said)) => format!("unauthorized: {said}"),
        (StatusCode::FORBIDDEN, Some(said)) => format!("denied: {said}"),
        (StatusCode::UNAUTHORIZED, None) => "unauthorized: authentication required".to_owned(),
        (StatusCode::FORBIDDEN, None) => "requested access to the resource is denied".to_owned(),
        (StatusCode::TOO_MANY_REQUESTS, said) => {
            format!("too many requests to registry{}", said.map_or(String::new(), |s| format!(": {s}")))
        }
        (status, said) => {
            format!("received unexpected HTTP status: {status}{}", said.map_or(String::new(), |s| format!(": {s}")))
        }
    };
    ImageError::Registry { message, transient: status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS }
}

/// `{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}` as one line of printable text.
pub(crate) fn registry_message(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let first = serde_json::from_slice::<Errors>(bytes).ok()?.errors.into_iter().next()?;
    let text = if first.message.is_empty() { first.code.to_ascii_lowercase().replace('_', " ") } else { first.message };
    let printable: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    (!printable.trim().is_empty()).then_some(printable)
}

/// Why a request failed, in Go's words where they are usual.
fn reason(error: &ureq::Error) -> String {
    match error {
        ureq::Error::HostNotFound => "no such host".to_owned(),
        ureq::Error::Timeout(_) => "timed out".to_owned(),
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        // rustls' name for bytes that are not TLS.
        other if other.to_string().contains("InvalidContentType") => {
            "http: server gave HTTP response to HTTPS client".to_owned()
        }
        // rustls is stricter than Go here: `openssl req -x509` makes such ones.
        other if other.to_string().contains("CaUsedAsEndEntity") => {
            "invalid peer certificate: it is a certificate authority's own; it has to sign one for the server"
                .to_owned()
        }
        ureq::Error::Io(error) => plain(error),
        ureq::Error::ConnectProxyFailed(what) => format!("the proxy refused: {what}"),
        other => other.to_string(),
    }
}

/// Is a certificate, or TLS as such, what failed?
fn is_certificate(error: &ureq::Error) -> bool {
    let text = error.to_string();
    ["certificate", "InvalidContentType", "tls", "TLS"].iter().any(|word| text.contains(word))
}

fn is_transient(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => error.kind() != io::ErrorKind::InvalidData,
        ureq::Error::Timeout(_) | ureq::Error::Protocol(_) => true,
        _ => false,
    }
}

/// One way to authenticate (RFC 9110, 11.6.1).
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case.
    scheme: String,
    parameters: Vec<(String, String)>,
}

impl Challenge {
    fn get(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// `Bearer realm="https://…",service="…",scope="…", Basic realm="…"`
pub(crate) fn challenges(text: &str) -> Vec<Challenge> {
    let mut all: Vec<Challenge> = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',', '\t']);
    while !rest.is_empty() {
        let word_end = rest.find([' ', '=', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(word_end);
        rest = match (after.strip_prefix('='), all.last_mut()) {
            (Some(value), Some(challenge)) => {
                let (value, after) = quoted(value);
                challenge.parameters.push((word.to_ascii_lowercase(), value));
                after
            }
            // A parameter of nothing: skipped.
            (Some(value), None) => quoted(value).1,
            (None, _) => {
                all.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: Vec::new() });
                after
            }
        };
        rest = rest.trim_start_matches([' ', ',', '\t']);
    }
    all
}

/// A token or a quoted string, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &inner[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_challenge_may_have_commas_in_quotes_and_come_with_others() {
        let text =
            r#"Basic realm="x", Bearer realm="https://auth.io/token",service=reg,scope="repository:a/b:pull,push""#;
        let all = challenges(text);
        assert_eq!(all.iter().map(|c| c.scheme.as_str()).collect::<Vec<_>>(), ["basic", "bearer"]);
        assert_eq!(all[1].get("scope"), Some("repository:a/b:pull,push"));
        assert_eq!(all[1].get("service"), Some("reg"));
        assert_eq!(all[0].get("realm"), Some("x"));
        assert_eq!(challenges(r#"Bearer realm="a\"b"#)[0].get("realm"), Some("a\"b"));
    }

    #[test]
    fn loopback_is_what_never_leaves_the_machine() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.1.2.3", "[::1]:5000", "[::1]"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.evil.io", "128.0.0.1:5000", "[::2]:5000", "127.0.0.1.evil.io", "quay.io"] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn a_registrys_message_is_one_printable_line() {
        let message = |text: &str| registry_message(text.as_bytes());
        assert_eq!(
            message(r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m\nway"}]}"#).as_deref(),
            Some("no [31m way")
        );
        assert_eq!(message(r#"{"errors":[{"code":"NAME_UNKNOWN"}]}"#).as_deref(), Some("name unknown"));
        assert_eq!(message("<html>"), None);
        assert_eq!(message(r#"{"errors":[]}"#), None);
    }

    proptest! {
        #[test]
        fn any_challenge_header_is_read_to_its_end(text in ".{0,200}") {
            let _ = challenges(&text);
        }
    }
}
