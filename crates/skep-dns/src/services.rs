//! Services that have a name of their own, as in `_http._tcp.web`. From IANA's registry, those that containers serve.

const SERVICES: &[(&str, u16)] = &[
    ("amqp", 5672),
    ("amqps", 5671),
    ("dns", 53),
    ("domain", 53),
    ("ftp", 21),
    ("http", 80),
    ("http-alt", 8080),
    ("https", 443),
    ("imap", 143),
    ("imaps", 993),
    ("kerberos", 88),
    ("ldap", 389),
    ("ldaps", 636),
    ("memcache", 11211),
    ("mongodb", 27017),
    ("mqtt", 1883),
    ("ms-sql-s", 1433),
    ("mysql", 3306),
    ("nfs", 2049),
    ("ntp", 123),
    ("postgresql", 5432),
    ("redis", 6379),
    ("sip", 5060),
    ("smtp", 25),
    ("ssh", 22),
    ("submission", 587),
    ("syslog", 514),
];

/// The port that `service` stands for: its number, or that of a service by this name.
pub(crate) fn port(service: &str) -> Option<u16> {
    let known = || SERVICES.iter().find(|(name, _)| *name == service).map(|(_, port)| *port);
    service.parse().ok().or_else(known)
}
