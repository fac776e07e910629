//! Every statement the broker runs, in one place, so that one test can ask SQLite for the plan of each and
//! refuse those that would read the whole backlog.

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $text:expr;)*) => {
        $($(#[$doc])* pub(crate) const $name: &str = $text;)*
        /// All of the above, for the plan test.
        #[cfg(test)]
        pub(crate) const ALL: &[(&str, &str)] = &[$((stringify!($name), $name)),*];
    };
}

/// The columns a job is read back from, see `encoding::Row`.
macro_rules! columns {
    () => {
        "j.seq, j.id, j.queue, j.envelope, j.at, j.recoveries, j.kind, j.rank"
    };
}

statements! {
    // ---- names and counts
    QUEUE_ADD = "INSERT INTO queue (name) VALUES (?1) ON CONFLICT (name) DO NOTHING";
    QUEUE_ID = "SELECT id FROM queue WHERE name = ?1";
    QUEUE_NAME = "SELECT name FROM queue WHERE id = ?1";
    QUEUE_COUNT = "UPDATE queue SET ready = ready + ?2, scheduled = scheduled + ?3, claimed = claimed + ?4, \
        dead = dead + ?5, enqueued = enqueued + ?6, succeeded = succeeded + ?7, failed = failed + ?8, \
        died = died + ?9, discarded = discarded + ?10, recovered = recovered + ?11 WHERE id = ?1";
    QUEUE_PAUSE = "UPDATE queue SET paused = ?2 WHERE id = ?1 AND paused <> ?2";
    QUEUE_IS_PAUSED = "SELECT 1 FROM queue WHERE id = ?1 AND paused = 1";
    PAUSED_QUEUES = "SELECT name FROM queue WHERE paused = 1 ORDER BY name";
    FRONT_TAKE = "UPDATE front SET rank = rank - ?1 RETURNING rank";

    // ---- the job itself
    JOB_ADD = "INSERT INTO job (id, queue, rank, at, envelope) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO NOTHING";
    JOB_MOVE = "UPDATE job SET queue = ?2, rank = ?3, at = ?4, kind = ?5, recoveries = ?6 WHERE seq = ?1";
    JOB_REPLACE = "UPDATE job SET queue = ?2, rank = ?3, at = ?4, kind = ?5, recoveries = ?6, envelope = ?7 \
        WHERE seq = ?1";
    JOB_CRASHED = "UPDATE job SET recoveries = ?2 WHERE seq = ?1";
    JOB_PLACE = "SELECT queue, rank, at FROM job WHERE seq = ?1";
    JOB_REMOVE = "DELETE FROM job WHERE seq = ?1";

    // ---- its state: enter and leave
    READY_ADD = "INSERT INTO ready (queue, rank, seq) VALUES (?1, ?2, ?3)";
    READY_REMOVE = "DELETE FROM ready WHERE queue = ?1 AND rank = ?2 AND seq = ?3";
    /// Everything up to and with one place in line.
    READY_REMOVE_TO = "DELETE FROM ready WHERE queue = ?1 AND (rank, seq) <= (?2, ?3)";
    SCHEDULED_ADD = "INSERT INTO scheduled (queue, at, seq) VALUES (?1, ?2, ?3)";
    SCHEDULED_REMOVE = "DELETE FROM scheduled WHERE queue = ?1 AND at = ?2 AND seq = ?3";
    /// For keys whose jobs are missing from a damaged file.
    READY_CLEAR = "DELETE FROM ready WHERE queue = ?1";
    DUE_CLEAR = "DELETE FROM scheduled WHERE queue = ?1 AND at <= ?2";
    SCHEDULED_REMOVE_TO = "DELETE FROM scheduled WHERE queue = ?1 AND (at, seq) <= (?2, ?3)";
    CLAIMED_ADD = "INSERT INTO claimed (claim, seq, queue) VALUES (?1, ?2, ?3)";
    /// The fence: a late worker removes nothing here, and nothing follows.
    CLAIMED_REMOVE = "DELETE FROM claimed WHERE claim = ?1 AND seq = ?2 AND queue = ?3";
    DEAD_ADD = "INSERT INTO dead (at, rank, seq, cause, detail) VALUES (?1, ?2, ?3, ?4, ?5)";
    DEAD_REMOVE = "DELETE FROM dead WHERE at = ?1 AND rank = ?2 AND seq = ?3";

    // ---- fetch
    ANY_READY = "SELECT 1 FROM ready WHERE queue = ?1 LIMIT 1";
    NEXT_DUE = "SELECT at FROM scheduled WHERE queue = ?1 ORDER BY at LIMIT 1";
    READY = concat!("SELECT ", columns!(), " FROM ready AS r CROSS JOIN job AS j ON j.seq = r.seq \
        WHERE r.queue = ?1 ORDER BY r.rank, r.seq LIMIT ?2");
    DUE = concat!("SELECT ", columns!(), " FROM scheduled AS s CROSS JOIN job AS j ON j.seq = s.seq \
        WHERE s.queue = ?1 AND s.at <= ?2 ORDER BY s.at, s.seq LIMIT ?3");

    // ---- leases
    LEASE_ADD = "INSERT INTO lease (worker, host, pid, queues, started_at, lease_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    LEASE_BEAT = "UPDATE lease SET beats = beats + 1 WHERE id = ?1 AND state = 0";
    LEASE_IS_LIVE = "SELECT 1 FROM lease WHERE id = ?1 AND state = 0";
    LEASE_STOP = "UPDATE lease SET state = 1 WHERE id = ?1 AND state = 0";
    LEASE_REMOVE = "DELETE FROM lease WHERE id = ?1";
    LEASES = "SELECT id, beats, lease_ms, state FROM lease";
    /// Compare-and-set: of several observers one wins, and a beat in between saves the owner.
    LEASE_CONDEMN = "UPDATE lease SET state = state + 2 WHERE id = ?1 AND beats = ?2 AND state < 2";
    ANY_CLAIM_OF = "SELECT 1 FROM claimed WHERE claim BETWEEN ?1 AND ?2 LIMIT 1";
    CLAIMS_OF = concat!("SELECT c.claim, ", columns!(), " FROM claimed AS c CROSS JOIN job AS j ON j.seq = c.seq \
        WHERE c.claim BETWEEN ?1 AND ?2 ORDER BY c.claim LIMIT ?3");

    // ---- lists and single jobs
    READY_BY_ID = concat!("SELECT ", columns!(), " FROM job AS j CROSS JOIN ready AS r \
        ON r.queue = j.queue AND r.rank = j.rank AND r.seq = j.seq WHERE j.id = ?1");
    SCHEDULED_BY_ID = concat!("SELECT ", columns!(), " FROM job AS j CROSS JOIN scheduled AS s \
        ON s.queue = j.queue AND s.at = j.at AND s.seq = j.seq WHERE j.id = ?1");
    DEAD_BY_ID = concat!("SELECT ", columns!(), ", d.cause, d.detail FROM job AS j CROSS JOIN dead AS d \
        ON d.at = j.at AND d.rank = j.rank AND d.seq = j.seq WHERE j.id = ?1");
    READY_PAGE = concat!("SELECT ", columns!(), " FROM ready AS r CROSS JOIN job AS j ON j.seq = r.seq \
        WHERE r.queue = ?1 AND (r.rank, r.seq) > (?2, ?3) ORDER BY r.rank, r.seq LIMIT ?4");
    SCHEDULED_PAGE = concat!("SELECT ", columns!(), " FROM scheduled AS s INDEXED BY scheduled_by_time \
        CROSS JOIN job AS j ON j.seq = s.seq WHERE (s.at, s.seq) > (?1, ?2) ORDER BY s.at, s.seq LIMIT ?3");
    DEAD_PAGE = concat!("SELECT ", columns!(), ", d.cause, d.detail FROM dead AS d CROSS JOIN job AS j ON j.seq = d.seq \
        WHERE (d.at, d.rank) > (?1, ?2) AND d.at < ?3 ORDER BY d.at, d.rank LIMIT ?4");
    QUEUES = "SELECT name, ready, scheduled, claimed, dead FROM queue ORDER BY name";
    QUEUE_READY = "SELECT ready FROM queue WHERE name = ?1";
    SUM_SCHEDULED = "SELECT COALESCE(SUM(scheduled), 0) FROM queue";
    SUM_DEAD = "SELECT COALESCE(SUM(dead), 0) FROM queue";
    TOTALS = "SELECT COALESCE(SUM(enqueued), 0), COALESCE(SUM(succeeded), 0), COALESCE(SUM(failed), 0), \
        COALESCE(SUM(died), 0), COALESCE(SUM(discarded), 0), COALESCE(SUM(recovered), 0) FROM queue";
    WORKERS = "SELECT l.worker, l.host, l.pid, l.queues, l.started_at, (SELECT COUNT(*) FROM claimed \
        WHERE claim BETWEEN l.id << 32 AND (l.id << 32) + 4294967295) FROM lease AS l WHERE l.state = 0 ORDER BY l.id";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::migrations::migrate;

    /// Tables that grow with the backlog. `queue`, `lease` and `front` stay small whatever happens.
    const GROWING: [&str; 6] = ["job", "ready", "scheduled", "claimed", "dead", "j"];

    /// What is wrong with a statement's plan.
    fn complaint(conn: &rusqlite::Connection, statement: &str) -> Option<String> {
        let mut explain = conn.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
        let unbound = vec![rusqlite::types::Null; explain.parameter_count()];
        let steps = explain.query_map(rusqlite::params_from_iter(unbound), |row| row.get::<_, String>(3)).unwrap();
        let steps: Vec<String> = steps.map(Result::unwrap).collect();
        let scans = |step: &String| {
            let scanned = step.strip_prefix("SCAN ").and_then(|rest| rest.split(' ').next());
            let aliases = ["r", "s", "c", "d"];
            scanned.is_some_and(|table| GROWING.contains(&table) || aliases.contains(&table))
        };
        steps.iter().find(|step| scans(step) || step.contains("TEMP B-TREE")).map(|step| format!("{step} in {steps:?}"))
    }

    #[test]
    fn no_statement_reads_the_whole_backlog() {
        let mut conn = rusqlite::Connection::open_in_memory().unwrap();
        migrate(&mut conn).unwrap();
        for (name, statement) in ALL {
            assert_eq!(complaint(&conn, statement), None, "{name}");
        }
        // The test can fail: these read everything, or sort it.
        for bad in [
            "SELECT COUNT(*) FROM ready",
            "SELECT id FROM job WHERE kind = ?1",
            "SELECT seq FROM ready WHERE queue = ?1 ORDER BY seq",
            "DELETE FROM claimed WHERE seq = ?1",
        ] {
            assert!(complaint(&conn, bad).is_some(), "{bad}");
        }
    }
}
