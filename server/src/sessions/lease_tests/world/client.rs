//! The model's client, and the connection that it has at one server.

use super::*;

impl World {
    /// The replies that apply has just queued.
    pub(super) fn release_applied(&mut self, at: usize) {
        let Some(link) = &mut self.link else { return };
        if link.at != at || link.conn.outbox().fate() != Fate::Open {
            return;
        }
        let mut proofs = Vec::new();
        if let Some(attachment) = link.conn.attachment.get()
            && let Some(sent) = link.connect_sent.take()
        {
            self.session = Some(attachment.session);
            proofs.push(sent);
        }
        let in_flight = link.conn.outbox().in_flight();
        while link.writes.len() > in_flight {
            proofs.extend(link.writes.pop_front());
        }
        for sent in proofs {
            self.release(sent, "a write or handshake");
        }
    }

    pub(super) fn client_sends(&mut self) {
        if self.now < self.quiet_until {
            return;
        }
        if self.link.is_none() {
            let at = self.any();
            self.connect(at);
            return;
        }
        let packet = match self.rng.random_range(0..4) {
            0 => Packet::Write(self.now),
            1 => Packet::Read,
            _ => Packet::Ping(self.now),
        };
        if let Some(link) = &mut self.link
            && link.conn.attachment.get().is_some()
        {
            link.inbox.push_back(packet);
        }
    }

    pub(super) fn connect(&mut self, at: usize) {
        self.next_seq = 1;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let identities = Identities::of_address(address.ip(), true);
        let conn = self.servers[at].sessions.accept(address, identities);
        self.link = Some(Link {
            at,
            conn,
            inbox: VecDeque::from([Packet::Connect(self.now)]),
            pings: VecDeque::new(),
            writes: VecDeque::new(),
            connect_sent: None,
            last_answer: self.now,
        });
    }

    /// The client's server reads one packet, as a connection and its line do.
    pub(super) fn server_reads(&mut self, at: usize) {
        let Some(link) = &mut self.link else { return };
        if link.at != at || self.now < self.servers[at].stalled_until {
            return;
        }
        let Some(packet) = link.inbox.pop_front() else {
            return;
        };
        self.wake(at);
        let now = self.local_now(at);
        let Some(link) = &self.link else { return };
        let refused = match packet {
            Packet::Connect(_) => !self.servers[at].sessions.is_fresh(now),
            _ => !self.may_answer(link),
        };
        if refused && !self.is_planted(Plant::NoBound) {
            self.hang_up();
            return;
        }
        match packet {
            Packet::Connect(sent) => self.take_handshake(at, sent),
            Packet::Ping(sent) => self.take_ping(at, sent, now),
            Packet::Write(sent) => self.take_write(at, sent, now),
            Packet::Read => {
                if let Some(link) = &self.link {
                    link.conn.touch(now);
                }
                self.answered("a read");
            }
        }
    }

    pub(super) fn take_handshake(&mut self, at: usize, sent: u64) {
        let session = self.session;
        let Some(link) = &mut self.link else { return };
        link.connect_sent = Some(sent);
        let server = &mut self.servers[at];
        let ticket = server.sessions.handshake(Handshake {
            conn: link.conn.clone(),
            read_only: None,
            last_zxid_seen: Zxid::ZERO,
        });
        let what = match session {
            None => What::Open(ticket),
            Some(session) => What::Attach(ticket, session),
        };
        server.queue.push_back(Request { from: at, what });
    }

    pub(super) fn take_ping(&mut self, at: usize, sent: u64, now: Duration) {
        let early = self.is_planted(Plant::EarlierReport);
        let Some(link) = &mut self.link else { return };
        link.conn.touch(now);
        match self.servers[at].sessions.confirm(&link.conn) {
            None => self.release(sent, "a ping"),
            Some(round) => {
                let round = if early { round - 1 } else { round };
                link.pings.push_back((round, sent));
            }
        }
    }

    pub(super) fn take_write(&mut self, at: usize, sent: u64, now: Duration) {
        let Some(link) = &mut self.link else { return };
        let Some(attachment) = link.conn.attachment.get() else {
            return;
        };
        link.conn.touch(now);
        link.conn.outbox().sent_on(InFlight {
            seq: self.next_seq,
            xid: Xid(1),
            op: OpCode::SetData,
            read_at: now,
        });
        link.writes.push_back(sent);
        let what = What::Write(Origin {
            session: attachment.session,
            attach: attachment.attach,
            seq: self.next_seq,
        });
        self.next_seq += 1;
        self.servers[at].queue.push_back(Request { from: at, what });
    }
}
