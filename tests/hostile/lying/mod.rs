//! Stores that do not tell the truth, and what stands between them and us: wrong answers, no answers, answers
//! that never end, dead connections, proxies, credentials that come late. What `sync` and the exit status
//! call complete is complete.

mod dead;
mod kills;
mod proxy;
mod table;
