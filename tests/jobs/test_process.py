"""What a child process reports back."""

from mmvideoiq.jobs.process import LOG_LINES, _end_of


def test_a_failed_process_is_its_one_line_error_or_the_end_of_its_log(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = tmp_path / "log.txt"
    log.write_text("INFO: started\nworker.py: error: loss is nan\n")
    assert _end_of(log, 1) == "loss is nan (log.txt)"
    log.write_text("".join(f"line {n}\n" for n in range(20)) + "RuntimeError: no more memory\n")
    first, *tail = _end_of(log, 1).splitlines()
    assert first == "exit code 1; the end of log.txt:" and len(tail) == LOG_LINES
    assert tail[-1] == "  RuntimeError: no more memory"
