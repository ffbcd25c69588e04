"""The store: an import is whole or not at all, also when it is killed, and the audit trail cannot be altered unseen."""

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from cantlie.cohort.importing import read_cohort
from cantlie.cohort.store import Store
from cantlie.core.errors import CohortError

GOOD = Path(__file__).parents[1] / "data" / "cohort" / "good"


def test_a_cohort_comes_back_as_it_went_in(tmp_path):
    cohort = read_cohort(GOOD)
    with Store(tmp_path / "store.db") as store:
        entry = store.save(cohort, who="tester")
        back = store.load("good")
        assert store.labels() == ["good"]
    assert entry.cohort_sha256 == cohort.sha256() == back.sha256()
    for name, frame in cohort.tables.items():
        pd.testing.assert_frame_equal(back.table(name), frame)
    assert dict(back.sources) == dict(cohort.sources)


def test_the_file_is_in_wal_mode(tmp_path):
    with Store(tmp_path / "store.db") as store:
        store.save(read_cohort(GOOD))
        connection = sqlite3.connect(tmp_path / "store.db")
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        connection.close()


def test_the_same_name_twice_is_refused_unless_replaced(tmp_path):
    cohort = read_cohort(GOOD)
    smaller = cohort.select({"P1"})
    with Store(tmp_path / "store.db") as store:
        store.save(cohort)
        with pytest.raises(CohortError, match="already"):
            store.save(smaller)
        assert len(store.load("good")) == 3
        store.save(smaller, replace=True)
        assert len(store.load("good")) == 1
        store.delete("good")
        assert store.labels() == []
        assert [entry.what for entry in store.audit()] == ["save", "replace", "delete"]


def test_nothing_of_a_failed_import_stays(tmp_path):
    cohort = read_cohort(GOOD)
    twice = pd.concat([cohort.table("labs")] * 2, ignore_index=True)
    twice["value"] = twice["value"].astype(object)
    twice.loc[5, "value"] = object()
    broken = replace(cohort, tables={**cohort.tables, "labs": twice}, label="broken")
    with Store(tmp_path / "store.db") as store:
        store.save(cohort)
        before = store.audit()
        with pytest.raises((CohortError, TypeError)):
            store.save(broken)
        assert store.labels() == ["good"]
        assert store.audit() == before
    connection = sqlite3.connect(tmp_path / "store.db")
    assert connection.execute("SELECT DISTINCT cohort_label FROM cohort_patients").fetchall() == [("good",)]
    connection.close()


KILLED = textwrap.dedent(
    """
    import sys, time
    from dataclasses import replace
    from pathlib import Path
    import sqlalchemy as sa
    from cantlie.cohort.importing import read_cohort
    from cantlie.cohort import store as module

    store = module.Store(Path(sys.argv[1]))

    def hang(connection, cursor, statement, *_):
        if statement.startswith("INSERT INTO cohort_events"):
            print("inserting", flush=True)
            time.sleep(60)

    sa.event.listen(store._engine, "before_cursor_execute", hang)
    store.save(replace(read_cohort(Path(sys.argv[2])), label="killed"))
    """
)


def test_a_killed_import_leaves_the_store_as_it_was(tmp_path):
    path = tmp_path / "store.db"
    with Store(path) as store:
        store.save(read_cohort(GOOD))
        before = store.load("good").sha256(), store.audit()
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path), str(GOOD)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().strip() == "inserting"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Store(path) as store:
        assert store.labels() == ["good"]
        assert (store.load("good").sha256(), store.audit()) == before
        store.save(replace(read_cohort(GOOD), label="after"))
        assert store.labels() == ["after", "good"]


def test_an_altered_cohort_or_trail_is_noticed(tmp_path):
    path = tmp_path / "store.db"
    with Store(path) as store:
        store.save(read_cohort(GOOD), who="tester")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE cohort_patients SET age_years = 30 WHERE patient_id = 'P1'")
    connection.commit()
    with Store(path) as store, pytest.raises(CohortError, match="altered outside"):
        store.load("good")
    connection.execute("UPDATE cantlie_audit SET who = 'somebody else'")
    connection.commit()
    connection.close()
    with Store(path) as store, pytest.raises(CohortError, match="audit trail was altered"):
        store.audit()


def test_a_store_of_an_earlier_version_gets_the_new_columns(tmp_path):
    path = tmp_path / "store.db"
    with Store(path) as store:
        store.save(read_cohort(GOOD))
        before = store.load("good").sha256()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE cohort_patients DROP COLUMN death_cause_code")
    connection.commit()
    connection.close()
    with Store(path) as store:
        assert store.load("good").sha256() == before
        store.save(replace(read_cohort(GOOD), label="new"))
        assert store.labels() == ["good", "new"]


def test_a_place_that_is_no_database_is_refused(tmp_path):
    path = tmp_path / "store.db"
    path.write_text("not a database, but a text that is long enough to be read as one" * 20)
    with pytest.raises(CohortError, match="cannot be opened"):
        Store(path)
    with pytest.raises(CohortError):
        Store("nosuchdatabase://somewhere")


@pytest.mark.skipif("CANTLIE_POSTGRES_URL" not in os.environ, reason="no PostgreSQL server was given")
def test_a_cohort_comes_back_from_a_server():
    cohort = replace(read_cohort(GOOD), label="cantlie-test")
    with Store(os.environ["CANTLIE_POSTGRES_URL"]) as store:
        store.save(cohort, replace=True)
        assert store.load("cantlie-test").sha256() == cohort.sha256()
        with pytest.raises(CohortError, match="cantlie-test"):
            store.save(cohort)
        halved = replace(cohort.select(set(cohort.patients["patient_id"][:2])), label="cantlie-test")
        store.save(halved, replace=True)
        assert store.load("cantlie-test").sha256() == halved.sha256()
        store.delete("cantlie-test")
        assert "cantlie-test" not in store.labels()
