//! A check that the file says what it should: every job in exactly one place, every counter right.

use goose_core::Result;

use crate::SqliteBroker;
use crate::error::SqlResult;
use crate::tx::Tx;

/// A sentence, and the number of rows it is true of; zero when all is well. These read everything, on purpose.
const COMPLAINTS: [(&str, &str); 4] = [
    (
        "jobs are in no place",
        "SELECT COUNT(*) FROM job WHERE seq NOT IN (SELECT seq FROM ready UNION ALL SELECT seq FROM scheduled \
         UNION ALL SELECT seq FROM claimed UNION ALL SELECT seq FROM dead)",
    ),
    (
        "jobs are in more than one place",
        "SELECT COUNT(*) FROM (SELECT seq FROM (SELECT seq FROM ready UNION ALL SELECT seq FROM scheduled \
         UNION ALL SELECT seq FROM claimed UNION ALL SELECT seq FROM dead) GROUP BY seq HAVING COUNT(*) > 1)",
    ),
    (
        "places name a job that does not exist or stands elsewhere",
        "SELECT (SELECT COUNT(*) FROM ready AS p LEFT JOIN job AS j ON j.seq = p.seq \
                 WHERE j.seq IS NULL OR j.queue <> p.queue OR j.rank <> p.rank) \
              + (SELECT COUNT(*) FROM scheduled AS p LEFT JOIN job AS j ON j.seq = p.seq \
                 WHERE j.seq IS NULL OR j.queue <> p.queue OR j.at <> p.at) \
              + (SELECT COUNT(*) FROM claimed AS p LEFT JOIN job AS j ON j.seq = p.seq \
                 WHERE j.seq IS NULL OR j.queue <> p.queue) \
              + (SELECT COUNT(*) FROM dead AS p LEFT JOIN job AS j ON j.seq = p.seq \
                 WHERE j.seq IS NULL OR j.at <> p.at OR j.rank <> p.rank)",
    ),
    (
        "queues have a counter that is wrong",
        "SELECT COUNT(*) FROM queue AS q \
         WHERE q.ready <> (SELECT COUNT(*) FROM ready WHERE queue = q.id) \
            OR q.scheduled <> (SELECT COUNT(*) FROM scheduled WHERE queue = q.id) \
            OR q.claimed <> (SELECT COUNT(*) FROM claimed JOIN job USING (seq) WHERE job.queue = q.id) \
            OR q.dead <> (SELECT COUNT(*) FROM dead JOIN job USING (seq) WHERE job.queue = q.id)",
    ),
];

impl SqliteBroker {
    /// Reads the whole file and says, in sentences, what in it contradicts itself; an empty list is good news.
    ///
    /// For tests and for bad nights: it takes time in proportion to the number of jobs. Other processes go on meanwhile;
    /// everything else on this handle waits, heartbeats included, so ask on a handle that no worker uses.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn check_consistency(&self) -> Result<Vec<String>> {
        self.engine.read(check).await
    }
}

fn check(tx: &mut Tx<'_>) -> SqlResult<Vec<String>> {
    let mut complaints = Vec::new();
    for (sentence, count) in COMPLAINTS {
        let rows: i64 = tx.conn.query_row(count, [], |row| row.get(0))?;
        if rows > 0 {
            complaints.push(format!("{rows} {sentence}"));
        }
    }
    let damage: String = tx.conn.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
    if damage != "ok" {
        complaints.push(format!("the file is damaged: {damage}"));
    }
    Ok(complaints)
}
