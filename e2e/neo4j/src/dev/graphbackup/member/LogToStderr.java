package dev.graphbackup.member;

import java.net.URL;
import org.apache.log4j.ConsoleAppender;
import org.apache.log4j.Level;
import org.apache.log4j.PatternLayout;
import org.apache.log4j.spi.Configurator;
import org.apache.log4j.spi.LoggerRepository;

/** Sends what ZooKeeper logs to stderr, errors only unless LOG_LEVEL says otherwise. */
public final class LogToStderr implements Configurator {
    @Override
    public void doConfigure(URL unused, LoggerRepository repository) {
        repository.getRootLogger().setLevel(Level.toLevel(System.getenv("LOG_LEVEL"), Level.ERROR));
        repository.getRootLogger().addAppender(new ConsoleAppender(new PatternLayout("%d{ISO8601} %p %c: %m%n"), "System.err"));
    }
}
